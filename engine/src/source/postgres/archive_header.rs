//! The head of an archive of `pg_dump -Fc`, as far as it makes two archives of one schema differ.

/// What every archive begins with.
const MAGIC: &[u8] = b"PGDMP";
/// From this minor version of the archive format on, the compression is one byte and no integer.
const COMPRESSION_IS_BYTE: u8 = 15;
/// The minor versions whose head is known: those of PostgreSQL 12 to 18.
const KNOWN: std::ops::RangeInclusive<u8> = 14..=16;
/// Seconds, minutes, hours, day, month from 0, years since 1900, daylight saving.
const TIME: [u8; 7] = [0, 0, 0, 1, 0, 100, 0];

/// Sets the time an archive was made at to the year 2000. It is the only thing in which two archives
/// of one schema by one `pg_dump` differ; without it they are one object in the repository, and an
/// archive that was lost is stored again by the next backup. An archive with a head of another
/// version is left as it is.
pub(super) fn forget_time(archive: &mut [u8]) {
    // Magic, version in three bytes, bytes of an integer, bytes of an offset, the format.
    let Some((head, _)) = archive.split_first_chunk::<11>() else { return };
    let (major, minor, int) = (head[5], head[6], head[8]);
    if !head.starts_with(MAGIC) || major != 1 || !KNOWN.contains(&minor) || int != 4 {
        return;
    }
    // An integer is a byte for its sign, then its bytes from the least significant on.
    let width = 1 + usize::from(int);
    let start = head.len() + if minor >= COMPRESSION_IS_BYTE { 1 } else { width };
    let Some(time) = archive.get_mut(start..start + TIME.len() * width) else { return };
    for (number, value) in time.chunks_mut(width).zip(TIME) {
        number.fill(0);
        number[1] = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(minor: u8, second: u8) -> Vec<u8> {
        let mut bytes = [MAGIC, &[1, minor, 0, 4, 8, 1]].concat();
        bytes.extend_from_slice(if minor >= COMPRESSION_IS_BYTE { &[2] } else { &[1, 1, 0, 0, 0] });
        for number in [second, 45, 3, 24, 10, 126, 0] {
            bytes.extend_from_slice(&[0, number, 0, 0, 0]);
        }
        bytes.extend_from_slice(b"the rest");
        bytes
    }

    #[test]
    fn two_archives_of_one_schema_become_equal() {
        for minor in [14, 15, 16] {
            let (mut one, mut two) = (archive(minor, 23), archive(minor, 25));
            forget_time(&mut one);
            forget_time(&mut two);
            assert_eq!(one, two);
            assert!(one.ends_with(b"\0\0\x64\0\0\0\0\0\0\0\0the rest"), "{one:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_left_alone() {
        for known in [archive(17, 23), archive(13, 23), b"PGDMP\x01\x0e".to_vec(), b"other".to_vec()] {
            let mut same = known.clone();
            forget_time(&mut same);
            assert_eq!(same, known);
        }
    }
}
