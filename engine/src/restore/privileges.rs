//! Whether things belong to whom they belonged to, and whether the same roles may use them.

use std::collections::{BTreeMap, BTreeSet};

use crate::restore::prove::Schemas;
use crate::target::postgres::TargetState;
use crate::target::postgres::privileges::{OfObject, Privileges, Stage};

/// As [`Privileges`] names the schema that every database begins with.
const PUBLIC: &str = "schema public";

/// Compares what two archives say. What the target cannot have a restore tells before it begins: that
/// is a remark, and everything else a difference.
pub(super) fn compare(wanted: &Privileges, found: &Privileges, state: &TargetState) -> Schemas {
    let mut differences = Vec::new();
    if !wanted.would_lock_out(state) {
        let belongs = |(object, owner): (&String, &String)| {
            let other = found.owners.get(object).filter(|other| *other != owner)?;
            let is_known = !state.can_give_to(owner) || (object == PUBLIC && !state.owns_public);
            (!is_known).then(|| format!("{object} belongs to {other} in the target, not to {owner}"))
        };
        differences.extend(wanted.owners.iter().filter_map(belongs));
    }
    let (of_wanted, of_found) = (by_object(wanted), by_object(found));
    let objects: BTreeSet<&str> = of_wanted.keys().chain(of_found.keys()).copied().collect();
    // Another owner of it has other privileges on it without being given any.
    let is_public_another = wanted.owners.get(PUBLIC) != found.owners.get(PUBLIC);
    for object in objects {
        let sides = [of_wanted.get(object).copied(), of_found.get(object).copied()];
        let is_public = sides.iter().flatten().any(|of| of.stage == Stage::Given);
        // Of what one side has not at all there is nothing more to tell.
        let is_in_both = is_made(object, wanted) == is_made(object, found);
        if is_in_both && (!is_public || (state.owns_public && !is_public_another)) {
            differences.extend(difference(object, sides, state));
        }
    }
    let remarks = wanted.left_out(state).into_iter().map(|note| note.text).collect();
    Schemas { differences, remarks }
}

fn by_object(privileges: &Privileges) -> BTreeMap<&str, &OfObject> {
    privileges.objects.iter().map(|of| (of.object.as_str(), of)).collect()
}

/// Whether an archive makes the object that privileges are about, by its name there: privileges on a
/// view are those on a TABLE, and a column has them beside its table.
fn is_made(object: &str, archive: &Privileges) -> bool {
    let Some((kind, name)) = object.split_once(' ') else { return false };
    let is_named = |name: &str| archive.owners.keys().any(|made| made.ends_with(&format!(" {name}")));
    if kind != "COLUMN" {
        return is_named(name);
    }
    let (column, schema) = name.rsplit_once(" in schema ").unwrap_or((name, ""));
    let mut tables = column.match_indices('.').map(|(dot, _)| &column[..dot]);
    tables.any(|table| is_named(&format!("{table} in schema {schema}")))
}

/// How the statements about one object differ, but for those that the target cannot have.
fn difference(object: &str, sides: [Option<&OfObject>; 2], state: &TargetState) -> Option<String> {
    let [wanted, found] = sides;
    // Of an object that fell to another owner, what either of the two may do is a matter of that.
    let fallen = wanted.filter(|wanted| !state.can_give_to(&wanted.owner));
    let owners = fallen.map(|wanted| [&wanted.owner, found.map_or(&state.user, |found| &found.owner)]);
    let is_owners = |role: Option<&str>| {
        owners.is_some_and(|owners| owners.iter().any(|owner| Some(owner.as_str()) == role))
    };
    let wanted: BTreeSet<&str> = (wanted.iter().flat_map(|of| of.possible(state)))
        .filter(|statement| !is_owners(statement.grantee()))
        .map(|statement| statement.sql.as_str())
        .collect();
    let found: BTreeSet<&str> = (found.iter().flat_map(|of| of.all()))
        .filter(|statement| !is_owners(statement.grantee()))
        .map(|statement| statement.sql.as_str())
        .collect();
    let only = |one: &BTreeSet<&str>, other: &BTreeSet<&str>, which: &str| {
        let only: Vec<&str> = one.difference(other).copied().collect();
        (!only.is_empty()).then(|| format!("{which}: {}", only.join("; ")))
    };
    let parts = [only(&wanted, &found, "not in the target"), only(&found, &wanted, "in the target only")];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| format!("privileges on {object}, {}", parts.join(", ")))
}
