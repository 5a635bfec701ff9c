//! Statements that no verb of the program makes.

use sqlx::{AssertSqlSafe, Connection as _};

/// Executes `statements`, each by itself, in the database of a storage URL.
pub fn execute(url: &str, statements: &[&str]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let statements = statements.iter().map(|&sql| AssertSqlSafe(sql.to_owned()));
    runtime.block_on(async {
        if url.starts_with("sqlite") {
            let mut connection = sqlx::SqliteConnection::connect(url).await.unwrap();
            for statement in statements {
                sqlx::query(statement).execute(&mut connection).await.unwrap();
            }
            connection.close().await.unwrap();
        } else {
            let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
            for statement in statements {
                sqlx::query(statement).execute(&mut connection).await.unwrap();
            }
            connection.close().await.unwrap();
        }
    });
}
