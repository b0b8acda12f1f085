use std::os::unix::fs::FileExt as _;
use std::path::Path;

use ballast_testkit::dataset::balance;
use ballast_testkit::servers::MysqlOptions;

use crate::site::{Site, churn, files, server};

/// One byte flipped in every kind of object, an object removed, two exchanged, one truncated: `verify` names it and `restore` refuses.
#[test]
fn notices_every_damage() {
    let source = server(MysqlOptions::default());
    balance::load(&source, 12, 3_000);
    let site = Site::new(&source, "").init();
    site.run(&["backup", "orders"]).expect(0);
    let repository = site.repository();
    let one = |folder: &str| files(&repository.join(folder)).remove(0);
    let pack = files(&repository.join("packs"))
        .into_iter()
        .max_by_key(|path| path.metadata().unwrap().len())
        .unwrap();

    for path in [
        one("keys"),
        one("manifests"),
        pack.clone(),
        repository.join("ballast-repository"),
    ] {
        let middle = path.metadata().unwrap().len() / 2;
        flip(&path, middle);
        let code = if path.starts_with(repository.join("keys")) || path.ends_with("ballast-repository") {
            // Nothing opens without it: the error itself names the object.
            let output = site.run(&["verify"]).expect(4);
            assert!(output.stderr.contains(&name(&repository, &path)), "{}", output.stderr);
            4
        } else {
            is_named(&site, &repository, &path);
            4
        };
        site.refuse_restore(&[], code);
        flip(&path, middle);
    }

    let aside = site.program.dir().join("aside");
    std::fs::rename(&pack, &aside).unwrap();
    is_named(&site, &repository, &pack);
    site.refuse_restore(&[], 4);

    std::fs::write(&pack, &std::fs::read(&aside).unwrap()[..100_000]).unwrap();
    is_named(&site, &repository, &pack);
    site.refuse_restore(&[], 4);
    std::fs::rename(&aside, &pack).unwrap();

    // A second backup with other data has packs of its own to exchange with.
    churn(&source, 12);
    site.run(&["backup", "orders"]).expect(0);
    let other = files(&repository.join("packs"))
        .into_iter()
        .find(|path| *path != pack)
        .unwrap();
    exchange(&pack, &other, &aside);
    is_named(&site, &repository, &pack);
    is_named(&site, &repository, &other);
    exchange(&pack, &other, &aside);
    let manifests = files(&repository.join("manifests"));
    exchange(&manifests[0], &manifests[1], &aside);
    is_named(&site, &repository, &manifests[0]);
    is_named(&site, &repository, &manifests[1]);
    site.refuse_restore(&[], 4);
    exchange(&manifests[0], &manifests[1], &aside);

    site.program.write("repository/notes.txt", "?");
    let report = site.json(&["verify"], 0);
    assert!(
        report["repositories"][0]["findings"].to_string().contains("notes.txt"),
        "{report}"
    );
    std::fs::remove_file(repository.join("notes.txt")).unwrap();
    site.verify_clean();
    site.restore(&[]);
}

/// One byte of a pack rots. What `verify` found, no later backup uses; what another repository has whole, `copy` brings back.
#[test]
fn damage_is_not_inherited() {
    let source = server(MysqlOptions::default());
    balance::load(&source, 6, 2_000);
    let mut site = Site::new(&source, "").init();
    let first = site.json(&["backup", "orders"], 0)["backup"]["id"].clone();
    let repository = site.repository();
    let pack = files(&repository.join("packs"))
        .into_iter()
        .max_by_key(|path| path.metadata().unwrap().len())
        .unwrap();
    let middle = pack.metadata().unwrap().len() / 2;
    flip(&pack, middle);
    let remedy = |site: &Site| {
        let report = site.json(&["verify"], 4);
        let findings = report["repositories"][0]["findings"].as_array().unwrap().clone();
        let of_pack = findings
            .into_iter()
            .find(|finding| finding["object"] == name(&repository, &pack).as_str());
        let finding = of_pack.unwrap_or_else(|| panic!("{report}"));
        assert_eq!(finding["backups"], serde_json::json!([first]), "{finding}");
        finding["remedy"].as_str().unwrap().to_owned()
    };
    assert_eq!(remedy(&site), "ballast backup orders");
    let second = site.json(&["backup", "orders"], 0);
    assert!(second["backup"]["bytes_new"].as_u64().unwrap() > 0, "{second}");
    let restored = site.restore(&[]);
    assert_eq!(restored["backup"], second["backup"]["id"], "{restored}");
    assert_eq!(
        remedy(&site),
        "ballast backup orders",
        "only the first needs the damaged pack"
    );
    std::fs::remove_dir_all(site.restored()).unwrap();
    site.refuse_restore(&["--backup", first.as_str().unwrap()], 4);

    flip(&pack, middle);
    let second_url = format!("file://{}", site.program.dir().join("second").display());
    site.change(
        "[[repository]]",
        &format!("[[repository]]\nname = \"second\"\nurl = \"{second_url}\"\n\n[[repository]]"),
    );
    let site = site.init();
    site.json(&["copy", "--from", "local", "--to", "second"], 0);
    site.verify_clean();
    flip(&pack, middle);
    let report = site.json(&["verify"], 4);
    assert!(
        report["repositories"][1]["findings"]
            .to_string()
            .contains("ballast copy --from second --to local"),
        "{report}"
    );
    let copied = site.json(&["copy", "--from", "second", "--to", "local"], 0);
    assert_eq!(copied["objects_replaced"], 1, "{copied}");
    site.verify_clean();
    assert!(files(&repository.join("damaged")).is_empty());
    site.restore(&["--backup", first.as_str().unwrap(), "--from-repository", "local"]);
}

/// The stamp is lost, then every key slot, then both: it is said as damage with the way out, and that way is gone.
#[test]
fn what_opens_a_repository_is_brought_back() {
    let source = server(MysqlOptions::default());
    balance::load(&source, 2, 20);
    let mut site = Site::new(&source, "");
    let second = site.program.dir().join("second");
    site.change(
        "[[repository]]",
        &format!(
            "[[repository]]\nname = \"second\"\nurl = \"file://{}\"\n\n[[repository]]",
            second.display()
        ),
    );
    let site = site.init();
    site.run(&["backup", "orders"]).expect(0);
    let repository = site.repository();
    let stamp = repository.join("ballast-repository");
    let slots = || files(&repository.join("keys"));
    for lost in [vec![stamp.clone()], slots(), [slots(), vec![stamp.clone()]].concat()] {
        for path in &lost {
            std::fs::remove_file(path).unwrap();
        }
        let output = site.run(&["verify"]).expect(4);
        assert!(
            output.stderr.contains("ballast copy --from second --to local") && output.stderr.contains("is damaged"),
            "{}",
            output.stderr
        );
        site.run(&["init"]).expect(4);
        site.refuse_restore(&["--from-repository", "local"], 4);
        site.run(&["copy", "--from", "second", "--to", "local", "--dry-run"])
            .expect(4);
        site.run(&["copy", "--from", "second", "--to", "local"]).expect(0);
        site.verify_clean();
    }
    for path in [&stamp, &second.join("ballast-repository")] {
        std::fs::remove_file(path).unwrap();
    }
    let output = site.run(&["list"]).expect(4);
    assert!(
        output.stderr.contains("\"ballast-repository\" is missing"),
        "{}",
        output.stderr
    );
}

/// A page that is damaged on the donor is never copied as good.
#[test]
fn a_damaged_page_of_the_source_is_named() {
    let source = server(MysqlOptions::default());
    balance::load(&source, 3, 2_000);
    let site = Site::new(&source, "").init();
    source.stop();
    let table = source.datadir().join("balance/orders_1.ibd");
    flip(&table, 5 * 16_384 + 9_000);
    source.restart();
    let output = site.run(&["backup", "orders"]).expect(4);
    assert!(
        output.stderr.contains("balance/orders_1.ibd") && output.stderr.contains("page 5"),
        "{}",
        output.stderr
    );
    assert_eq!(site.json(&["list"], 0)["backups"], serde_json::json!([]));
    flip(&table, 5 * 16_384 + 9_000);
    site.run(&["backup", "orders"]).expect(0);
}

fn is_named(site: &Site, repository: &Path, path: &Path) {
    let report = site.json(&["verify"], 4);
    let findings = report["repositories"][0]["findings"].as_array().unwrap();
    let named = findings
        .iter()
        .find(|finding| finding["object"] == name(repository, path).as_str());
    let named = named.unwrap_or_else(|| panic!("{} is not named: {report}", path.display()));
    assert_eq!(named["severity"], "error", "{named}");
}

pub(crate) fn name(repository: &Path, path: &Path) -> String {
    path.strip_prefix(repository).unwrap().display().to_string()
}

pub(crate) fn flip(path: &Path, offset: u64) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x20], offset).unwrap();
}

fn exchange(a: &Path, b: &Path, aside: &Path) {
    std::fs::rename(a, aside).unwrap();
    std::fs::rename(b, a).unwrap();
    std::fs::rename(aside, b).unwrap();
}
