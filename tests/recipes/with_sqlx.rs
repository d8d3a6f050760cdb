use std::error::Error;
use std::time::Duration;

use sqlx::PgConnection;
use sqlx::postgres::PgPoolOptions;

async fn order(connection: &mut PgConnection, amount: i32) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar("INSERT INTO orders (amount) VALUES ($1) RETURNING amount")
        .bind(amount)
        .fetch_one(connection)
        .await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // RECIPE
    let mut known = pool.acquire().await?;
    order(&mut known, 1).await?;
    println!("ready");
    std::io::stdin().read_line(&mut String::new())?;
    let mut added = pool.acquire().await?;
    println!("{}", order(&mut known, 2).await? + order(&mut added, 3).await?);
    Ok(())
}
