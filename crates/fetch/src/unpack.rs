//! Images come in archives with one image.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use zip::ZipArchive;

use crate::names::is_name;
use crate::{FetchError, LARGEST, file_failed};

/// What an image's name ends with.
const ENDINGS: [&str; 4] = [".iso", ".image", ".vmdk", ".mmc"];
/// Files of an archive that are looked at; those of Haiku have three.
const MOST_FILES: usize = 1000;

/// Whether a file is an archive.
pub(crate) fn is_archive(path: &Path) -> Result<bool, FetchError> {
    let mut begin = Vec::new();
    let file = File::open(path).map_err(file_failed("read", path))?;
    file.take(4).read_to_end(&mut begin).map_err(file_failed("read", path))?;
    Ok(begin == b"PK\x03\x04")
}

/// Unpacks the image of an archive into a directory. Returns where it is.
pub(crate) fn unpack(archive: &Path, directory: &Path) -> Result<PathBuf, FetchError> {
    let failed = |problem: String| FetchError::Archive { path: archive.to_owned(), problem };
    let file = File::open(archive).map_err(file_failed("read", archive))?;
    let mut zip = ZipArchive::new(file).map_err(|error| failed(error.to_string()))?;
    let mut images = Vec::new();
    for index in 0..zip.len().min(MOST_FILES) {
        let Some(name) = zip.name_for_index(index) else { continue };
        // Only the last part: a path could lead anywhere.
        let Ok(name) = name else { continue };
        let leaf = name.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
        if is_name(&leaf) && ENDINGS.iter().any(|ending| leaf.ends_with(ending)) {
            images.push((index, leaf));
        }
    }
    let (index, name) = match images.as_slice() {
        [(index, name)] => (*index, name.clone()),
        [] => return Err(failed("there is no image in it".to_owned())),
        several => return Err(failed(format!("there are {} images in it", several.len()))),
    };
    let part = directory.join(format!("{name}.unpacking"));
    let path = directory.join(name);
    let written = write(&mut zip, index, &part);
    if let Err(error) = written {
        // Half an image is none; the first error is the one to tell.
        drop(std::fs::remove_file(&part));
        return Err(match error {
            Unpack::Archive(problem) => failed(problem),
            Unpack::File(error) => file_failed("write", &part)(error),
        });
    }
    std::fs::rename(&part, &path).map_err(file_failed("write", &path))?;
    Ok(path)
}

enum Unpack {
    Archive(String),
    File(io::Error),
}

fn write(zip: &mut ZipArchive<File>, index: usize, part: &Path) -> Result<(), Unpack> {
    let entry = zip.by_index(index).map_err(|error| Unpack::Archive(error.to_string()))?;
    let announced = entry.size();
    if announced > LARGEST {
        return Err(Unpack::Archive(format!("the image has {announced} bytes")));
    }
    // One byte more than announced tells an archive that lies.
    let mut reader = entry.take(announced + 1);
    let mut file = File::create(part).map_err(Unpack::File)?;
    let (mut piece, mut size) = (vec![0; 1 << 18], 0);
    loop {
        let length = reader.read(&mut piece).map_err(|error| Unpack::Archive(error.to_string()))?;
        if length == 0 {
            break;
        }
        size += length as u64;
        file.write_all(&piece[..length]).map_err(Unpack::File)?;
    }
    if size != announced {
        return Err(Unpack::Archive(format!("the image has {size} bytes, not {announced}")));
    }
    file.sync_all().map_err(Unpack::File)
}
