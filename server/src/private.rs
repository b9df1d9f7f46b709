//! Folders and files that only the server's own user may open, whatever its umask.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::Result;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Makes a folder and those above it. One that is there keeps the mode its owner chose.
pub fn create_folder(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes an empty file, if there is none.
pub fn create_file(path: &Path) -> Result<()> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path).map(drop)
}

/// Closes a file that was made by others to everybody else.
pub fn close_file(path: &Path) -> Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(0o600))
}
