//! Databases for tests: each test owns one, migrated and empty, and nothing is left of it afterwards.

use tempfile::TempDir;

use crate::db::Db;

/// An SQLite file of its own in a folder of its own, removed when dropped.
#[derive(Debug)]
pub struct TestDb {
    /// The migrated, empty database.
    pub db: Db,
    url: String,
    _folder: TempDir,
}

impl TestDb {
    /// Makes one.
    ///
    /// # Panics
    /// If the machine gives it no room.
    pub async fn create() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = format!("sqlite://{}/souk.db", folder.path().display());
        let db = Db::connect(&url).await.expect("a new database");
        db.migrate().await.expect("a migrated database");
        Self { db, url, _folder: folder }
    }

    /// Its URL, for a second connection.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}
