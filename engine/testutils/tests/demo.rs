//! The shop is what its facts say, day by day, and the same every time.

use std::collections::BTreeMap;

use engine_testutils::demo::{self, Changes, Day, TableFacts};
use engine_testutils::postgres::Cluster;

type Row = Vec<Option<String>>;
/// Rows by key, with how many there are of each: a table without a key has the row as its key.
type Table = BTreeMap<Row, (Row, u64)>;

async fn read(cluster: &Cluster, database: &str, facts: &TableFacts) -> Table {
    let mut table = Table::new();
    for mut row in cluster.query_text(database, &format!("SELECT * FROM public.{}", facts.name)).await {
        while row.last() == Some(&None) {
            row.pop();
        }
        let key = if facts.key_columns == 0 { row.clone() } else { row[..facts.key_columns].to_vec() };
        table.entry(key).or_insert((row, 0)).1 += 1;
    }
    table
}

async fn read_all(cluster: &Cluster, database: &str) -> Vec<Table> {
    let mut tables = Vec::new();
    for facts in demo::facts() {
        tables.push(read(cluster, database, facts).await);
    }
    tables
}

fn compare(from: &Table, to: &Table) -> Changes {
    let mut changes = Changes::default();
    for (key, (row, count)) in to {
        match from.get(key) {
            None => changes.added += count,
            Some((old, old_count)) => {
                changes.changed += u64::from(old != row);
                changes.added += count.saturating_sub(*old_count);
                changes.removed += old_count.saturating_sub(*count);
            }
        }
    }
    changes.removed +=
        from.iter().filter(|(key, _)| !to.contains_key(*key)).map(|(_, (_, count))| count).sum::<u64>();
    changes
}

#[tokio::test]
async fn every_day_changes_exactly_what_the_facts_say() {
    let cluster = Cluster::shared();
    let database = cluster.fresh_database("shop").await;
    let client = cluster.connect(&database).await;
    demo::seed(&client).await.unwrap();
    let mut days = vec![read_all(cluster, &database).await];
    for day in [Day::Tuesday, Day::Wednesday] {
        demo::change(&client, day).await.unwrap();
        days.push(read_all(cluster, &database).await);
    }
    for (position, facts) in demo::facts().iter().enumerate() {
        let rows =
            [0, 1, 2].map(|day: usize| days[day][position].values().map(|(_, count)| count).sum::<u64>());
        assert_eq!(rows, facts.rows, "{}", facts.name);
        let changes = [0, 1].map(|day: usize| compare(&days[day][position], &days[day + 1][position]));
        assert_eq!(changes, facts.changes, "{}", facts.name);
    }
    let listed = "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition
                  AND relnamespace IN ('public'::regnamespace, 'reporting'::regnamespace)";
    assert_eq!(cluster.query_one(&database, listed).await, demo::facts().len().to_string());
}

#[tokio::test]
async fn two_seeds_are_equal() {
    let cluster = Cluster::shared();
    let mut seen = Vec::new();
    for hostile in
        ["", "ALTER DATABASE {} SET DateStyle = 'SQL, DMY'; ALTER DATABASE {} SET TimeZone = 'Asia/Tokyo'"]
    {
        let database = cluster.fresh_database("twin").await;
        cluster.execute(&database, &hostile.replace("{}", &database)).await;
        demo::seed(&cluster.connect(&database).await).await.unwrap();
        cluster.execute(&database, &format!("ALTER DATABASE {database} RESET ALL")).await;
        seen.push(read_all(cluster, &database).await);
    }
    assert!(seen[0] == seen[1]);
}
