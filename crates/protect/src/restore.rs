//! Carries out a restore plan. What is not finished lies in a folder of its own inside the target, which no server would take for a
//! data directory; it moves to its place only after the proof, and it is taken away when anything fails.

mod from_rows;
mod open_files;
pub(crate) mod place;
pub(crate) mod private;
mod unpack;

use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ballast_base::{Clock, Task, run_blocking, spawn};
use ballast_mysql::{DirectoryLayout, FileKind, FilePath, Flavour, LayoutFile};
use ballast_repository::{BackupId, BackupReader};
use jiff::Timestamp;

use self::open_files::OpenFiles;
use self::place::{Place, failed, private_dir, sync_tree};
use crate::context::{Context, StepTime};
use crate::error::{ErrorKind, ProtectError, Result};
use crate::mysql::external;
use crate::mysql::proof::{self, Proof, Proved};
use crate::mysql::record::PhysicalRecord;
use crate::position::Position;
use crate::replay::Replayed;
use crate::restore_plan::RestorePlan;

/// Undo and system tablespaces that lay outside the donor's data directory come to lie in this folder inside the copy; the server
/// finds them by itself.
const EXTERNAL: &str = "external-tablespaces";
/// Between two rounds of writing out.
const WRITE_OUT_EVERY: Duration = Duration::from_millis(100);

/// What a restore came to.
#[derive(Debug, serde::Serialize)]
pub struct RestoreOutcome {
    pub backup: String,
    pub repository: String,
    pub target: PathBuf,
    pub reached: Reached,
    pub expected: Expected,
    pub proof: Proof,
    /// What of the log was replayed on top of the backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replayed: Option<Replayed>,
    /// Objects of a logical backup that could not be made, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// Starts a server on it.
    pub start_command: String,
    /// Gives it to the user that server runs as.
    pub ownership: String,
    pub steps: Vec<StepTime>,
    pub seconds: f64,
}

impl RestoreOutcome {
    /// Whether something that is in the backup is not in the directory.
    pub fn partial(&self) -> bool {
        !self.left_out.is_empty()
    }
}

#[derive(Debug, serde::Serialize)]
pub struct Reached {
    pub position: Position,
    pub at: Option<Timestamp>,
}

#[derive(Debug, serde::Serialize)]
pub struct Expected {
    pub position: Option<Position>,
}

/// Restores, proves, and only then puts the directory in its place.
pub async fn restore(context: &Context, plan: RestorePlan) -> Result<RestoreOutcome> {
    let place = Place::prepare(context, &plan).await?;
    match Box::pin(carry_out(context, &plan, &place)).await {
        Ok(outcome) => Ok(outcome),
        Err(error) => {
            place.clear(context);
            Err(error)
        }
    }
}

async fn carry_out(context: &Context, plan: &RestorePlan, place: &Place) -> Result<RestoreOutcome> {
    if plan.rows {
        return Box::pin(carry_out_rows(context, plan, place)).await;
    }
    let mut steps = context.steps();
    let mut early = WriteOut::start(Arc::clone(&context.clock), place.unfinished.clone());
    let (proved, settings) = if let Some(tool) = &plan.tool {
        let record = steps.run("unpack", unpack::unpack(context, plan, tool, place)).await?;
        let reached = steps.run("prepare", unpack::prepare(context, tool, place)).await?;
        early.all_there();
        let prove = external::proof::prove(context, plan, &record, &place.unfinished, reached);
        (Box::pin(steps.run("prove", prove)).await?, record.settings)
    } else {
        let record = steps.run("download", download(context, plan, place)).await?;
        early.all_there();
        let prove = proof::prove(context, plan, &record, &place.unfinished, &place.outside);
        (steps.run("prove", Box::pin(prove)).await?, record.settings)
    };
    early.end().await?;
    if !proved.proof.holds() {
        return Err(unproved(plan, &proved));
    }
    steps.run("finish", place.finish(context)).await?;
    let (steps, seconds) = steps.finish();
    Ok(RestoreOutcome {
        backup: plan.backup.id.clone(),
        repository: plan.repository.clone(),
        target: plan.target.clone(),
        reached: Reached {
            position: proved.position,
            at: plan.moment(),
        },
        expected: Expected {
            position: plan.expected(),
        },
        proof: proved.proof,
        replayed: proved.replayed,
        left_out: Vec::new(),
        start_command: start_command(plan, &settings, &place.outside),
        ownership: ownership(plan, &place.outside),
        steps,
        seconds,
    })
}

/// Of a logical backup.
async fn carry_out_rows(context: &Context, plan: &RestorePlan, place: &Place) -> Result<RestoreOutcome> {
    let mut steps = context.steps();
    let filled = steps
        .run("load", Box::pin(from_rows::fill(context, plan, place)))
        .await?;
    steps.run("finish", place.finish(context)).await?;
    let (steps, seconds) = steps.finish();
    Ok(RestoreOutcome {
        backup: plan.backup.id.clone(),
        repository: plan.repository.clone(),
        target: plan.target.clone(),
        reached: filled.load.reached,
        expected: filled.load.expected,
        proof: filled.load.proof,
        replayed: filled.replayed,
        left_out: filled.load.left_out,
        start_command: start_command(plan, &filled.settings, &place.outside),
        ownership: ownership(plan, &place.outside),
        steps,
        seconds,
    })
}

/// Lets the disk write while files arrive and the server recovers. It promises nothing: what counts is the sync of `finish`.
struct WriteOut {
    task: Task<Result<()>>,
    /// When this is gone there is one last round.
    arriving: Option<Arc<()>>,
}

impl WriteOut {
    fn start(clock: Arc<dyn Clock>, folder: PathBuf) -> Self {
        let arriving = Arc::new(());
        let watched = Arc::downgrade(&arriving);
        let task = spawn("write out", async move {
            let rounds = move || loop {
                let last = watched.upgrade().is_none();
                let begin = clock.elapsed();
                drop(sync_tree(&folder));
                if last {
                    return;
                }
                // With very many files a round costs something though nothing is to be written.
                std::thread::sleep(clock.elapsed().saturating_sub(begin).max(WRITE_OUT_EVERY));
            };
            Ok(run_blocking("write out", rounds).await?)
        });
        Self {
            task,
            arriving: Some(arriving),
        }
    }

    /// No more files come.
    fn all_there(&mut self) {
        self.arriving = None;
    }

    async fn end(self) -> Result<()> {
        drop(self.arriving);
        self.task.join().await?
    }
}

fn unproved(plan: &RestorePlan, proved: &Proved) -> ProtectError {
    let mut problems = proved.proof.tables_differing.clone();
    if proved.proof.position_equal == Some(false) {
        let expected = plan.expected().map(|position| position.to_string()).unwrap_or_default();
        problems.insert(
            0,
            format!("position {} was expected and {} was reached", expected, proved.position),
        );
    }
    ProtectError::new(
        ErrorKind::Damaged,
        format!("the restored copy is not what was backed up: {}", problems.join("; ")),
    )
    .hint("restore another backup with --backup ID, and check the stored bytes with: ballast verify")
}

/// Lays the files out and fills them.
async fn download(context: &Context, plan: &RestorePlan, place: &Place) -> Result<PhysicalRecord> {
    let id = BackupId::parse(&plan.backup.id)
        .ok_or_else(|| ProtectError::usage(format!("\"{}\" is no backup id", plan.backup.id)))?;
    let manifest = plan.from.manifest(&id, &context.cancel).await?;
    let record = PhysicalRecord::read(&manifest.annex)?;
    // Behind the directory's files come those of rows.
    let beside = manifest.files.len().checked_sub(record.layout.files.len());
    if beside.is_none_or(|beside| beside > 0 && record.beside.is_none()) {
        return Err(ProtectError::new(
            ErrorKind::Damaged,
            format!("backup \"{id}\" has a record that does not fit its files"),
        ));
    }
    if record.layout.files.iter().any(goes_outside) {
        place.open_outside()?;
    }
    let paths = lay_out(place, &record.layout)?;
    for (path, file) in paths.iter().zip(&manifest.files) {
        let made = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o640)
            .open(path);
        made.and_then(|made| made.set_len(file.size))
            .map_err(failed("create", path))?;
    }
    let total = manifest.files.iter().take(paths.len()).map(|file| file.size).sum();
    let numbers: Vec<usize> = (0..paths.len()).collect();
    let files = OpenFiles::new(paths);
    let write = move |file: usize, offset: u64, bytes: &[u8]| files.get(file)?.write_all_at(bytes, offset);
    let (observer, done) = (Arc::clone(&context.observer), AtomicU64::new(0));
    let progress = move |bytes| {
        let done_bytes = done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        observer.progress(&crate::Progress::of_bytes("download", done_bytes, Some(total)));
    };
    let reader = BackupReader::new(&plan.from, &manifest);
    reader
        .read(&numbers, Arc::new(write), Arc::new(progress), &context.cancel)
        .await?;
    Ok(record)
}

/// Makes the folders and the empty files; gives the path of each file of the layout, in its order.
fn lay_out(place: &Place, layout: &DirectoryLayout) -> Result<Vec<PathBuf>> {
    let root = place.unfinished.as_path();
    let mut paths = Vec::new();
    for (number, file) in layout.files.iter().enumerate() {
        paths.push(match &file.path {
            FilePath::Inside(path) => inside(root, path)?,
            FilePath::External(path) if goes_outside(file) => inside(&place.outside, &external(number, path))?,
            FilePath::External(path) => inside(root, &Path::new(EXTERNAL).join(external(number, path)))?,
        });
    }
    for folder in &layout.folders {
        private_dir(&inside(root, folder)?, true)?;
    }
    for path in &paths {
        private_dir(path.parent().unwrap_or(root), true)?;
    }
    for path in &layout.markers {
        let path = inside(root, path)?;
        private_dir(path.parent().unwrap_or(root), true)?;
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o640)
            .open(&path)
            .map_err(failed("create", &path))?;
    }
    Ok(paths)
}

/// A table's own or a general tablespace from outside stays outside: a server refuses it inside a data directory.
fn goes_outside(file: &LayoutFile) -> bool {
    matches!(file.path, FilePath::External(_)) && file.kind == FileKind::Tablespace
}

/// The last folder is kept: for a table with a data directory of its own it is the name of the schema.
fn external(number: usize, path: &Path) -> PathBuf {
    let mut place = PathBuf::from(number.to_string());
    place.extend(path.parent().and_then(Path::file_name));
    place.extend(path.file_name());
    place
}

/// A path of the record under `root`, and nowhere else.
fn inside(root: &Path, path: &Path) -> Result<PathBuf> {
    use std::path::Component;
    let mut whole = root.to_owned();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(name) => whole.push(name),
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(ProtectError::new(
                    ErrorKind::Damaged,
                    format!("the backup names a file outside its directory: \"{}\"", path.display()),
                ));
            }
        }
    }
    Ok(whole)
}

fn ownership(plan: &RestorePlan, outside: &Path) -> String {
    let mut command = format!("chown -R mysql:mysql {}", shell_word(&plan.target));
    if outside.exists() {
        command = format!("{command} {}", shell_word(outside));
    }
    command
}

fn start_command(plan: &RestorePlan, settings: &BTreeMap<String, String>, outside: &Path) -> String {
    const USUAL: [(&str, &str); 3] = [
        ("innodb_page_size", "16384"),
        ("innodb_data_file_path", "ibdata1:12M:autoextend"),
        ("lower_case_table_names", "0"),
    ];
    let server = match plan.binary.version.flavour {
        Flavour::MariaDb => "mariadbd",
        Flavour::Mysql | Flavour::Percona => "mysqld",
    };
    let mut command = format!("{server} --user=mysql --datadir={}", shell_word(&plan.target));
    if outside.exists() {
        command.push_str(&format!(" --innodb-directories={}", shell_word(outside)));
    }
    for (name, usual) in USUAL {
        if let Some(value) = settings.get(name).filter(|value| *value != usual) {
            command.push_str(&format!(
                " --{}={}",
                name.replace('_', "-"),
                shell_word(Path::new(value))
            ));
        }
    }
    command
}

/// Quoted for a shell where that is needed.
pub(crate) fn shell_word(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-:=,".contains(c)) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_stored_name_leads_out_of_the_target() {
        let root = Path::new("/target");
        assert_eq!(
            inside(root, Path::new("./balance/orders_0.ibd")).unwrap(),
            Path::new("/target/balance/orders_0.ibd")
        );
        for path in ["/etc/passwd", "../x", "a/../../x"] {
            assert!(inside(root, Path::new(path)).is_err(), "{path}");
        }
        assert_eq!(
            external(3, Path::new("/mnt/fast/balance/t.ibd")),
            Path::new("3/balance/t.ibd")
        );
    }

    #[test]
    fn a_command_can_be_pasted_into_a_shell() {
        assert_eq!(shell_word(Path::new("/var/lib/mysql")), "/var/lib/mysql");
        assert_eq!(shell_word(Path::new("/a b/it's")), "'/a b/it'\\''s'");
    }
}
