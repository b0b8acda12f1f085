//! Whole restores: a backup of each kind, and the log on top of it, against a plain replica that stopped at the same transaction.

use ballast_storage::StorageSettings;
use ballast_testkit::dataset::{balance, checksums};

use super::*;
use crate::load_plan::plan_load;
use crate::restore::restore;
use crate::restore_plan::{RestoreRequest, RestoreTarget, plan_restore};
use crate::settings::{Engine, KeyMaterial, Limit, RepositorySettings, SourceKind, SourceSettings, ToolPlaces};
use crate::vault::Vault;

const SHARDS: u32 = 4;
const GRANTS: [&str; 12] = [
    "BACKUP_ADMIN",
    "RELOAD",
    "PROCESS",
    "REPLICATION CLIENT",
    "REPLICATION SLAVE",
    "SELECT",
    "SHOW VIEW",
    "TRIGGER",
    "EVENT",
    "SHOW_ROUTINE",
    "REFERENCES",
    "LOCK TABLES",
];

struct Site {
    context: Context,
    told: Arc<Told>,
    vault: Vault,
    folder: tempfile::TempDir,
    source: MysqlServer,
}

impl Site {
    async fn new(source: MysqlServer) -> Self {
        let (context, told) = context();
        let folder = tempfile::tempdir().unwrap();
        let repository = RepositorySettings {
            name: "local".to_owned(),
            storage: StorageSettings {
                url: format!("file://{}", folder.path().join("repository").display()),
                endpoint: None,
                region: None,
                access_key: None,
                secret_key: None,
                session_token: None,
                ca_file: None,
                insecure: false,
            },
        };
        let key = KeyMaterial::KeyFile(Secret::new("5a".repeat(32)));
        let repositories = std::slice::from_ref(&repository);
        Vault::init(&context, repositories, &key).await.unwrap();
        let vault = Vault::open(&context, repositories, &key).await.unwrap();
        Self {
            context,
            told,
            vault,
            folder,
            source,
        }
    }

    fn repository(&self) -> &Repository {
        &self.vault.repositories()[0]
    }

    async fn back_up(&self, engine: Engine) -> crate::catalog::BackupSummary {
        let named = (engine == Engine::External).then(|| self.source.backup_tool());
        let source = SourceSettings {
            name: "orders".to_owned(),
            kind: SourceKind::Mysql,
            url: format!(
                "{}?socket={}",
                self.source.url("backup"),
                self.source.socket().display()
            ),
            password: Some(Secret::new("tide".to_owned())),
            databases: Vec::new(),
            expect: Vec::new(),
            engine,
            tools: ToolPlaces {
                named,
                folders: Vec::new(),
            },
            limit: Limit::default(),
            log: crate::settings::LogSettings::default(),
        };
        Box::pin(crate::backup::backup(&self.context, &self.vault, &source))
            .await
            .unwrap()
            .backup
    }

    fn request(&self, target: &str, backup: &str) -> RestoreRequest {
        let path = self.folder.path().join(target);
        let program = self.source.program().to_owned();
        RestoreRequest {
            source: "orders".to_owned(),
            target: RestoreTarget::DataDir(path),
            target_password: None,
            backup: Some(backup.to_owned()),
            stop: None,
            skip: Vec::new(),
            keep_off: Vec::new(),
            replace: false,
            mysqld: Some(program.clone()),
            mariadbd: Some(program),
            probed: None,
            no_binlog: false,
            tools: ToolPlaces {
                named: (self.source.flavour() == Flavour::Mariadb).then(|| self.source.backup_tool()),
                folders: Vec::new(),
            },
            only: Vec::new(),
            rename: Vec::new(),
            scratch: self.folder.path().to_owned(),
        }
    }

    /// What the backup needs of the log to come to the stop.
    async fn replay(
        &self,
        backup: &crate::catalog::BackupSummary,
        part: &StreamPart,
        stop: &Stop,
        skip: &[Gtid],
    ) -> ReplayPlan {
        let from = backup.position.clone().unwrap().gtid_executed;
        let plan = plan_of(&self.source, vec![part.clone()], &from, skip);
        super::resolve(&self.context, self.repository(), plan, stop)
            .await
            .unwrap()
    }

    async fn restore(
        &self,
        target: &str,
        backup: &crate::catalog::BackupSummary,
        replay: &ReplayPlan,
    ) -> crate::RestoreOutcome {
        let mut plan = plan_restore(&self.context, &self.vault, &self.request(target, &backup.id))
            .await
            .unwrap();
        plan.replay = Some(replay.clone());
        Box::pin(restore(&self.context, plan)).await.unwrap()
    }

    fn opened(&self, target: &str) -> MysqlServer {
        let options = MysqlOptions {
            flavour: self.source.flavour(),
            ..MysqlOptions::default()
        };
        MysqlServer::start_on(&self.folder.path().join(target), options)
    }

    /// A plain replica, stopped behind this set of transactions.
    fn reference(&self, set: &str) -> MysqlServer {
        let replica = MysqlServer::start(MysqlOptions::default());
        replica.sql(&format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {}, SOURCE_USER = 'backup', SOURCE_PASSWORD = 'tide',
             SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1; START REPLICA UNTIL SQL_AFTER_GTIDS = '{set}';
             SELECT WAIT_FOR_EXECUTED_GTID_SET('{set}', 60)",
            self.source.port()
        ));
        replica.sql("STOP REPLICA");
        replica
    }
}

/// What a day brings, after a backup: rows, a table that comes and one that goes, an account, an event.
fn live_on(source: &MysqlServer) {
    for round in 0..20 {
        let shard = round % SHARDS;
        source.sql(&format!(
            "START TRANSACTION; UPDATE balance.orders_{shard} SET note = 'round {round}' WHERE id % 3 = {round} % 3; SAVEPOINT a;
             DELETE FROM balance.orders_{shard} WHERE id = {round}; ROLLBACK TO a; INSERT INTO balance.admin (login, password_hash, role)
             VALUES ('r{round}', 'x', 'orders'); COMMIT"
        ));
    }
    source.sql("CREATE TABLE balance.fresh AS SELECT id, note FROM balance.orders_1; ALTER TABLE balance.fresh ADD PRIMARY KEY (id)");
    source.sql("CREATE USER app@'%' IDENTIFIED BY 'hush'; GRANT SELECT ON balance.* TO app@'%'; ALTER USER app@'%' IDENTIFIED BY 'new'");
    source.sql("CREATE DEFINER = app@'%' EVENT balance.nightly ON SCHEDULE EVERY 1 DAY STARTS '2040-01-01' DO DELETE FROM balance.fresh");
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_of_mysql_are_taken_on_to_any_transaction() {
    let source = MysqlServer::start(MysqlOptions::default());
    balance::load(&source, SHARDS, 200);
    source.create_user("backup", "tide", &GRANTS);
    let site = Site::new(source).await;
    let source = &site.source;
    let uuid = source.value("SELECT @@server_uuid");
    let physical = site.back_up(Engine::Physical).await;
    live_on(source);
    source.sql("FLUSH BINARY LOGS");
    let logical = site.back_up(Engine::Logical).await;
    let last_good: u64 = source.gtid_executed().rsplit_once('-').unwrap().1.parse().unwrap();
    source.sql("DROP TABLE balance.orders_2");
    live_on_after(source);
    let part = archive(site.repository(), source).await;
    let dropped: Gtid = format!("{uuid}:{}", last_good + 1).parse().unwrap();

    // The shard is back, with everything up to the accident.
    let replay = site.replay(&physical, &part, &Stop::Before(dropped.clone()), &[]).await;
    let set = format!("{uuid}:1-{last_good}");
    assert_eq!(replay.expected.to_string(), set);
    let outcome = site.restore("before", &physical, &replay).await;
    assert_eq!(outcome.reached.position.gtid_executed, set);
    assert_eq!(
        outcome.reached.at,
        replay.last_kept.as_ref().map(|last| last.committed_at)
    );
    assert!(outcome.proof.holds() && outcome.replayed.is_some(), "{outcome:?}");
    let restored = site.opened("before");
    assert_eq!(restored.gtid_executed(), set);
    let reference = site.reference(&set);
    assert_eq!(checksums(&restored, &["balance"]), checksums(&reference, &["balance"]));
    // Who made it could log in; the event runs as it did, and nothing of the replay is left.
    let event = "SELECT CONCAT(STATUS, DEFINER) FROM information_schema.EVENTS WHERE EVENT_NAME = 'nightly'";
    assert_eq!(restored.value(event), source.value(event));
    let traces = "SELECT COUNT(*) FROM mysql.slave_master_info, mysql.slave_relay_log_info";
    assert_eq!(restored.value(traces), "0");
    assert!(
        restored
            .sql_as("app", "new", "SELECT COUNT(*) FROM balance.shops")
            .is_ok()
    );
    drop(restored);

    // Rows, and the log without the accident: what came after it is there, too.
    let replay = site
        .replay(&logical, &part, &Stop::Latest, std::slice::from_ref(&dropped))
        .await;
    let outcome = site.restore("skip", &logical, &replay).await;
    assert_eq!(outcome.reached.position.gtid_executed, source.gtid_executed());
    let restored = site.opened("skip");
    assert_eq!(restored.gtid_executed(), source.gtid_executed());
    let (mut all, mut before) = (checksums(&restored, &["balance"]), checksums(&reference, &["balance"]));
    assert_eq!(all.remove("balance.orders_2"), before.remove("balance.orders_2"));
    assert_eq!(all, checksums(source, &["balance"]));
    drop(restored);

    // One table out of it, into a server that runs.
    let target = MysqlServer::start(MysqlOptions::default());
    target.create_user("loader", "tide", &["ALL"]);
    let request = RestoreRequest {
        target: RestoreTarget::Server(format!("{}?socket={}", target.url("loader"), target.socket().display())),
        target_password: Some(Secret::new("tide".to_owned())),
        only: vec![crate::pattern::TablePattern::parse("balance.orders_2").unwrap()],
        ..site.request("unused", &physical.id)
    };
    let mut plan = plan_load(&site.context, &site.vault, &request).await.unwrap();
    let replay = site.replay(&physical, &part, &Stop::Before(dropped), &[]).await;
    plan.files.as_mut().unwrap().replay = Some(replay.clone());
    let outcome = Box::pin(crate::load::load(&site.context, plan)).await.unwrap();
    assert_eq!(outcome.reached.position.gtid_executed, replay.expected.to_string());
    assert_eq!(
        checksums(&target, &["balance"])["balance.orders_2"],
        checksums(&reference, &["balance"])["balance.orders_2"]
    );
    assert!(!site.told.replayed.lock().unwrap().is_empty());
}

fn live_on_after(source: &MysqlServer) {
    for shard in [0, 1, 3] {
        source.sql(&format!(
            "UPDATE balance.orders_{shard} SET note = 'after the accident' WHERE id % 5 = 0"
        ));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_mariadb_by_its_tool_is_taken_on() {
    let source = MysqlServer::start(MysqlOptions::mariadb());
    balance::load(&source, SHARDS, 200);
    source.create_user("backup", "tide", &["ALL"]);
    let site = Site::new(source).await;
    let source = &site.source;
    let backup = site.back_up(Engine::External).await;
    source.sql(
        "UPDATE balance.orders_1 SET note = 'later'; CREATE TABLE balance.fresh AS SELECT id FROM balance.orders_0",
    );
    source.sql(
        "CREATE USER app@'%' IDENTIFIED BY 'hush'; FLUSH BINARY LOGS; DELETE FROM balance.orders_3 WHERE id % 2 = 0",
    );
    let part = archive(site.repository(), source).await;
    let replay = site.replay(&backup, &part, &Stop::Latest, &[]).await;
    assert_eq!(replay.transactions, 4);
    let outcome = site.restore("restored", &backup, &replay).await;
    let end = source.value("SELECT @@GLOBAL.gtid_binlog_pos");
    assert_eq!(outcome.reached.position.gtid_executed, end);
    assert_eq!(outcome.replayed.unwrap().transactions, 4);
    let restored = site.opened("restored");
    assert_eq!(checksums(&restored, &["balance"]), checksums(source, &["balance"]));
    assert_eq!(restored.value("SELECT @@GLOBAL.gtid_slave_pos"), end);
    assert_eq!(
        restored.value("SELECT COUNT(*) FROM mysql.user WHERE user = 'app'"),
        "1"
    );
    let left = std::fs::read_dir(restored.datadir()).unwrap().filter_map(|entry| {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        // Every server makes an empty `multi-master.info` for itself.
        (name.contains("relay") || name == "master.info").then_some(name)
    });
    assert_eq!(left.collect::<Vec<_>>(), Vec::<String>::new());
}
