//! Writes every page with sample content, and the assets, to a folder to be served and looked at:
//! `cargo run -p web --example samples -- <folder>`.

use std::{fs, io, path::PathBuf};

use web::{assets, pages::catalogue};

fn main() -> io::Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or(io::ErrorKind::InvalidInput)?);
    let assets_folder = folder.join("assets");
    fs::create_dir_all(&assets_folder)?;
    for asset in assets::all() {
        fs::write(assets_folder.join(asset.file_name()), asset.bytes)?;
    }
    for (name, markup) in catalogue::samples() {
        fs::write(folder.join(format!("{name}.html")), markup.into_string())?;
    }
    Ok(())
}
