//! Why a database did not do what it was asked: the engines' errors, sorted by what the caller can do about them.

/// Why the database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It could not be reached in time, or it is out of room. Nothing was done; the same call may succeed later.
    #[error("the database is not available")]
    Unavailable(#[source] sqlx::Error),
    /// The connection was lost while a commit was under way: the change may stand or not.
    #[error("the outcome of a commit is unknown")]
    Uncertain(#[source] sqlx::Error),
    /// A row with this value is there already.
    #[error("a unique value is taken")]
    Duplicate(#[source] sqlx::Error),
    /// Anything else: a fault of this program or a damaged database.
    #[error("the database refused a statement")]
    Fault(#[source] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("the database cannot be migrated")]
    Migration(#[source] sqlx::migrate::MigrateError),
    /// The URL names no database that Souk can use; the text says why.
    #[error("{0}")]
    Url(String),
    /// There is a database, but Souk cannot work with it as it is; the text says why, and what to do.
    #[error("{0}")]
    Unusable(String),
}

impl StoreError {
    /// Whether this transaction and another waited for each other: it was certainly rolled back, and may well succeed
    /// when it is tried again.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        let Self::Unavailable(sqlx::Error::Database(cause)) = self else { return false };
        cause.code().is_some_and(|code| matches!(code.as_ref(), "40P01" | "40001"))
    }

    /// The error of a `commit` itself: unless the engine says that it refused, nobody knows.
    pub(crate) fn in_commit(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(_) if !may_have_committed(&error) => Self::from(error),
            error => Self::Uncertain(error),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match &error {
            E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed | E::Io(_) | E::Tls(_) => {
                Self::Unavailable(error)
            }
            // A connection that lost count of its transactions; it is closed when it is given back.
            E::InvalidSavePointStatement | E::BeginFailed => Self::Unavailable(error),
            E::Database(cause) if cause.is_unique_violation() => Self::Duplicate(error),
            E::Database(cause) if is_passing(cause.code().as_deref()) => Self::Unavailable(error),
            _ => Self::Fault(error),
        }
    }
}

/// Whether an engine's error code tells of a state that passes: locked, out of room, shutting down, timed out.
///
/// SQLite's codes are decimal numbers with the primary code in the low byte; Postgres's are five characters.
fn is_passing(code: Option<&str>) -> bool {
    let Some(code) = code else { return false };
    if code.len() == 5 && !code.bytes().all(|byte| byte.is_ascii_digit()) || code.starts_with('0') {
        return is_passing_sqlstate(code);
    }
    match code.parse::<u32>() {
        // BUSY, LOCKED, NOMEM, READONLY, INTERRUPT, IOERR, FULL, CANTOPEN
        Ok(code) if code < 10_000 => matches!(code & 0xff, 5 | 6 | 7 | 8 | 9 | 10 | 13 | 14),
        _ => is_passing_sqlstate(code),
    }
}

/// Classes: connection, insufficient resources, operator intervention, transaction rollback, and, of what worked at the
/// start, no such user and no such database; then time-outs of locks and idle transactions, and a standby.
fn is_passing_sqlstate(code: &str) -> bool {
    ["08", "53", "57", "40", "28", "3D"].iter().any(|class| code.starts_with(class))
        || matches!(code, "55P03" | "25P03" | "25P04" | "25006")
}

/// Whether a commit that was answered with this error may stand all the same: IOERR and FULL of SQLite, which may have
/// reached the log, and a Postgres that was told to end just after it had written.
fn may_have_committed(error: &sqlx::Error) -> bool {
    let Some(code) = error.as_database_error().and_then(|cause| cause.code()) else { return true };
    match code.parse::<u32>() {
        Ok(number) if number < 10_000 => matches!(number & 0xff, 10 | 13),
        _ => code.starts_with("57") || code.starts_with("08"),
    }
}

/// An error with its causes, in one line: what logs show, since an error's own text leaves its cause out.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_codes_tell_what_passes() {
        for code in [
            "5", "517", "6", "13", "14", "778", "08006", "57P01", "40P01", "55P03", "53300", "40001",
            "28P01", "25006",
        ] {
            assert!(is_passing(Some(code)), "{code}");
        }
        for code in ["1", "19", "2067", "787", "23505", "42601", "22001"] {
            assert!(!is_passing(Some(code)), "{code}");
        }
    }
}
