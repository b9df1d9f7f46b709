use super::*;

/// (number, kind, tag, needs); all in the schema `s`.
fn entries(of: &[(i64, &str, &str, &[i64])]) -> Vec<Entry> {
    let entry = |(id, kind, tag, needs): &(i64, &str, &str, &[i64])| Entry {
        id: *id,
        kind: (*kind).to_owned(),
        tag: (*tag).to_owned(),
        namespace: "s".to_owned(),
        needs: needs.to_vec(),
        definition: format!("{} {kind}", if tag.ends_with("_own") { "ALTER" } else { "CREATE" }),
        ..Entry::default()
    };
    of.iter().map(entry).collect()
}

/// The numbers of what is taken, and what is left out in words.
fn picked(entries: &[Entry], tables: &[&str]) -> Result<(Vec<i64>, Vec<String>)> {
    let chosen: Vec<_> = tables.iter().map(|table| ("s".to_owned(), (*table).to_owned())).collect();
    let (taken, left_out) = Graph::new(entries, &chosen)?.pick()?;
    let ids = taken.iter().map(|at| entries[*at].id).collect();
    Ok((ids, left_out.iter().map(ToString::to_string).collect()))
}

#[test]
fn a_table_comes_with_what_it_needs_and_what_is_its_own() {
    let all = entries(&[
        (1, "SCHEMA", "s", &[]),
        (2, "TYPE", "mood", &[1]),
        (3, "TYPE", "unused", &[1]),
        (4, "TABLE", "a", &[1, 2, 99]),
        (5, "TABLE", "a b", &[1]),
        (6, "COMMENT", "TABLE a", &[4]),
        (7, "COMMENT", "TABLE a b", &[5]),
        (8, "SEQUENCE", "a_id_seq", &[4, 1]),
        (9, "DEFAULT", "a id", &[4, 8]),
        (10, "SEQUENCE OWNED BY", "a_id_seq", &[8]),
        (11, "CONSTRAINT", "a a_pkey", &[4]),
        (12, "FK CONSTRAINT", "a b fk", &[5, 4, 11]),
        (13, "INDEX", "i", &[4]),
        (14, "ENCODING", "ENCODING", &[]),
        (15, "VIEW", "v", &[4]),
        (16, "TRIGGER", "a b t", &[5, 4]),
    ]);
    let (taken, left_out) = picked(&all, &["a"]).unwrap();
    assert_eq!(taken, [1, 2, 4, 6, 8, 9, 10, 11, 13, 14]);
    assert_eq!(left_out, [""; 0], "what is of `a b` is no part of `a`");
    let (taken, left_out) = picked(&all, &["a b"]).unwrap();
    assert_eq!(taken, [1, 5, 7, 14]);
    assert_eq!(left_out, ["foreign key fk of s.\"a b\" (needs s.a)", "trigger t of s.\"a b\" (needs s.a)"]);
    let (taken, left_out) = picked(&all, &["a b", "a"]).unwrap();
    assert_eq!((taken.contains(&12), left_out.len()), (true, 0));
}

#[test]
fn partitions_come_with_their_root_at_any_depth() {
    let all = entries(&[
        (1, "TABLE", "root", &[]),
        (2, "TABLE", "p", &[1]),
        (3, "TABLE", "pp", &[2]),
        (4, "TABLE ATTACH", "pp", &[3, 2]),
        (5, "TABLE ATTACH", "p", &[2, 1]),
        (6, "INDEX", "i", &[1]),
        (7, "INDEX", "pi", &[6, 2]),
        (8, "INDEX ATTACH", "pi", &[7, 6, 2, 1]),
        (9, "TABLE", "other", &[]),
    ]);
    assert_eq!(picked(&all, &["root"]).unwrap().0, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(picked(&all, &["other"]).unwrap().0, [9]);
}

#[test]
fn a_sequence_is_made_without_the_table_that_owns_it() {
    let all = entries(&[
        (1, "TABLE", "owner", &[]),
        (2, "SEQUENCE", "owner_id_seq", &[1]),
        (3, "SEQUENCE OWNED BY", "owner_id_seq", &[2]),
        (4, "TABLE", "user", &[2]),
        (5, "SEQUENCE", "user_own", &[4]),
    ]);
    assert_eq!(picked(&all, &["user"]).unwrap().0, [2, 4, 5]);
    assert_eq!(picked(&all, &["owner"]).unwrap().0, [1, 2, 3]);
}

#[test]
fn routines_come_together_as_far_as_they_can_be_made() {
    let all = entries(&[
        (1, "TABLE", "t", &[3]),
        (2, "TABLE", "other", &[]),
        (3, "FUNCTION", "f()", &[]),
        (4, "FUNCTION", "called_by_f()", &[]),
        (5, "FUNCTION", "g(other)", &[2]),
        (6, "CAST", "CAST (a AS b)", &[3]),
        (7, "TABLE", "plain", &[]),
    ]);
    assert_eq!(picked(&all, &["t"]).unwrap().0, [1, 3, 4, 6]);
    assert_eq!(picked(&all, &["plain"]).unwrap().0, [7]);
}

/// Its functions need its shell alone, and it needs them.
#[test]
fn a_base_type_comes_whole_with_its_functions() {
    let all = entries(&[
        (1, "SHELL TYPE", "base", &[]),
        (2, "FUNCTION", "base_in(cstring)", &[1]),
        (3, "FUNCTION", "base_out(base)", &[1]),
        (4, "TYPE", "base", &[2, 3]),
        (5, "FUNCTION", "f()", &[]),
        (6, "TABLE", "t", &[5]),
        (7, "TABLE", "uses_it", &[4]),
        (8, "TABLE", "plain", &[]),
    ]);
    assert_eq!(picked(&all, &["t"]).unwrap().0, [1, 2, 3, 4, 5, 6]);
    assert_eq!(picked(&all, &["uses_it"]).unwrap().0, [1, 2, 3, 4, 5, 7]);
    assert_eq!(picked(&all, &["plain"]).unwrap().0, [8]);
}

#[test]
fn a_table_that_needs_another_is_refused_with_its_name() {
    let all = entries(&[
        (1, "TABLE", "parent", &[]),
        (2, "TABLE", "heir", &[1]),
        (3, "TYPE", "pair", &[1]),
        (4, "TABLE", "typed", &[3]),
    ]);
    for table in ["heir", "typed"] {
        let error = picked(&all, &[table]).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert_eq!(error.message(), format!("s.{table} cannot be made without s.parent"));
        assert!(error.help().unwrap().contains("Choose s.parent too"));
    }
    assert_eq!(picked(&all, &["heir", "parent"]).unwrap().0, [1, 2]);
    let gone = picked(&all, &["gone"]).unwrap_err();
    assert!(gone.message().contains("its definition is not in the snapshot"), "{gone}");
}
