//! A follower that keeps what comes, and compares it with the server's own files.

use std::collections::BTreeMap;
use std::sync::Arc;

use ballast_base::{Cancel, run_blocking};
use ballast_mysql::{
    Connection, ExecutedSet, FollowOptions, Followed, LOG_MAGIC, LogFlavour, LogFollower, LogPlace, LogWalker,
    MysqlError, ServerAddress, Walked, list_log_files,
};
use ballast_testkit::servers::{Flavour, MysqlServer};

pub(crate) const UUID: &str = "11111111-2222-3333-4444-000000009001";

pub(crate) fn flavour(server: &MysqlServer) -> LogFlavour {
    match server.flavour() {
        Flavour::Mysql => LogFlavour::Mysql,
        Flavour::Mariadb => LogFlavour::MariaDb,
    }
}

pub(crate) fn address(server: &MysqlServer) -> ServerAddress {
    server.url("root").parse().unwrap()
}

pub(crate) fn options(server: &MysqlServer) -> FollowOptions {
    FollowOptions {
        heartbeat: std::time::Duration::from_millis(200),
        ..FollowOptions::new(flavour(server), UUID)
    }
}

pub(crate) fn place(file: &str, offset: u64) -> LogPlace {
    LogPlace {
        file: file.to_owned(),
        offset,
    }
}

/// Where the server is.
pub(crate) fn end(server: &MysqlServer) -> LogPlace {
    let sql = match server.flavour() {
        Flavour::Mysql => "SHOW BINARY LOG STATUS",
        Flavour::Mariadb => "SHOW MASTER STATUS",
    };
    let row = server.sql(sql).remove(0);
    place(row[0].as_ref().unwrap(), row[1].as_ref().unwrap().parse().unwrap())
}

pub(crate) struct Capture {
    pub(crate) follower: LogFollower,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) walker: LogWalker,
    pub(crate) walked: Vec<Walked>,
    pub(crate) acknowledges: bool,
    pub(crate) asked: u64,
    pub(crate) heartbeats: u64,
    pub(crate) parts_max: usize,
    /// The size of each event, in order.
    pub(crate) events: Vec<usize>,
    parts: usize,
    size: usize,
}

impl Capture {
    pub(crate) async fn start(server: &MysqlServer, file: &str) -> Self {
        let follower = LogFollower::connect(&address(server), &options(server), &place(file, 0), &Cancel::new())
            .await
            .unwrap();
        Self {
            follower,
            files: BTreeMap::new(),
            walker: LogWalker::new(flavour(server), 0),
            walked: Vec::new(),
            acknowledges: true,
            asked: 0,
            heartbeats: 0,
            parts_max: 0,
            events: Vec::new(),
            parts: 0,
            size: 0,
        }
    }

    /// A new connection that goes on where the last one was.
    pub(crate) async fn reconnect(&mut self, server: &MysqlServer) {
        let place = self.follower.place().clone();
        self.follower = LogFollower::connect(&address(server), &options(server), &place, &Cancel::new())
            .await
            .unwrap();
    }

    fn put(&mut self, bytes: &[u8]) {
        let file = self.follower.place().file.clone();
        self.files.entry(file).or_default().extend(bytes);
        self.walker.push_into(bytes, &mut self.walked).unwrap();
    }

    pub(crate) async fn step(&mut self) -> Result<Followed, MysqlError> {
        let followed = self.follower.next().await?;
        match &followed {
            Followed::Bytes {
                bytes,
                last_of_event,
                acknowledge,
            } => {
                self.put(bytes);
                (self.parts, self.size) = (self.parts + 1, self.size + bytes.len());
                self.parts_max = self.parts_max.max(self.parts);
                assert_eq!(self.walker.at_event_border(), *last_of_event);
                if *last_of_event {
                    self.events.push(self.size);
                    (self.parts, self.size) = (0, 0);
                }
                if *acknowledge {
                    self.asked += 1;
                    if self.acknowledges {
                        let place = self.follower.place().clone();
                        self.follower.acknowledge(&place.file, place.offset).await?;
                    }
                }
            }
            Followed::FileStart { .. } => self.put(&LOG_MAGIC),
            Followed::Heartbeat { file, offset } => {
                assert_eq!(self.follower.place(), &place(file, *offset));
                self.heartbeats += 1;
            }
            Followed::Ended => {}
        }
        Ok(followed)
    }

    /// Follows until everything came that the server has now.
    pub(crate) async fn catch_up(&mut self, server: &MysqlServer) {
        let end = end(server);
        while self.follower.place() != &end || !self.walker.at_event_border() {
            assert_ne!(self.step().await.unwrap(), Followed::Ended);
        }
    }

    /// Follows while something happens to the server.
    pub(crate) async fn during<T: Send + 'static>(
        &mut self,
        server: &Arc<MysqlServer>,
        work: impl FnOnce(&MysqlServer) -> T + Send + 'static,
    ) -> T {
        let server = Arc::clone(server);
        let work = run_blocking("sql", move || work(&server));
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done.unwrap(),
                stepped = self.step() => { stepped.unwrap(); }
            }
        }
    }

    /// Until the server says that it ends.
    pub(crate) async fn until_the_end(&mut self) {
        while self.step().await.unwrap() != Followed::Ended {}
    }

    /// Every file is as the server has it; the one that is written to, but for the flag that says so.
    pub(crate) async fn compare(&self, server: &MysqlServer) {
        let mut connection = Connection::open(&address(server), &Cancel::new()).await.unwrap();
        let listed = list_log_files(&mut connection).await.unwrap();
        connection.close().await;
        let names: Vec<&str> = listed.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(self.files.keys().map(String::as_str).collect::<Vec<_>>(), names);
        for (at, file) in listed.iter().enumerate() {
            let mut theirs = std::fs::read(server.datadir().join(&file.name)).unwrap();
            let ours = &self.files[&file.name];
            let open = at + 1 == listed.len();
            assert_eq!(ours[21], 0, "{}", file.name);
            if open {
                assert_eq!(theirs[21], 1, "{}", file.name);
            }
            // MariaDB leaves the flag in the file it wrote to when it was killed.
            if open || server.flavour() == Flavour::Mariadb {
                theirs[21] = 0;
            }
            assert_eq!(
                (ours.len(), file.size),
                (theirs.len(), theirs.len() as u64),
                "{}",
                file.name
            );
            let differs = ours.iter().zip(&theirs).position(|(ours, theirs)| ours != theirs);
            assert_eq!(differs, None, "{} differs", file.name);
        }
    }

    /// What the walker saw begin, and that all of it ended.
    pub(crate) fn executed(&self, server: &MysqlServer) -> ExecutedSet {
        let mut set = ExecutedSet::empty(flavour(server));
        let mut within = false;
        for walked in &self.walked {
            match walked {
                Walked::Previous { set: previous, .. } => assert_eq!(*previous, set),
                Walked::TransactionStart { head, .. } => {
                    set.add(head.gtid.as_ref().unwrap()).unwrap();
                    within = true;
                }
                Walked::TransactionEnd { .. } => within = false,
                _ => {}
            }
        }
        assert!(!within);
        set
    }
}

/// The borders of all events of a file.
pub(crate) fn borders(file: &[u8]) -> Vec<usize> {
    let mut borders = vec![4];
    while let Ok(header) = ballast_mysql::EventHeader::decode(&file[borders[borders.len() - 1]..]) {
        borders.push(borders[borders.len() - 1] + header.size as usize);
    }
    borders
}

/// What comes of a file from an offset on, up to its end or the server's.
pub(crate) async fn rest(
    server: &MysqlServer,
    options: &FollowOptions,
    from: &LogPlace,
) -> Result<Vec<u8>, MysqlError> {
    let end = end(server);
    let mut follower = LogFollower::connect(&address(server), options, from, &Cancel::new()).await?;
    let mut bytes = Vec::new();
    while follower.place() != &end && follower.place().file == from.file {
        if let Followed::Bytes { bytes: part, .. } = follower.next().await?
            && follower.place().file == from.file
        {
            bytes.extend(part);
        }
    }
    Ok(bytes)
}

/// The server's own program reads a captured file.
pub(crate) fn read_by_mysqlbinlog(server: &MysqlServer, bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("captured");
    std::fs::write(&file, bytes).unwrap();
    let program = match server.flavour() {
        Flavour::Mysql => "mysqlbinlog",
        Flavour::Mariadb => "mariadb-binlog",
    };
    let output = std::process::Command::new(server.client_program(program))
        .args(["--verify-binlog-checksum", "--verbose"])
        .arg(&file)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && !errors.contains("ERROR"), "{errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
