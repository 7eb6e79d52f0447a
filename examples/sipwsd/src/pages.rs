//! The files that the admin server serves, in memory: nothing that a request asks for ever reaches the file system.

use crate::Failure;
use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// More than any web phone needs; a wrong directory (`/`) is noticed before it fills the memory.
const MOST_BYTES: u64 = 64 << 20;
const MOST_FILES: usize = 10_000;
const DEEPEST: usize = 16;

/// A file as it is sent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Page {
    pub(crate) content_type: &'static str,
    pub(crate) body: axum::body::Bytes,
}

/// What a path leads to.
#[derive(Debug, PartialEq)]
pub(crate) enum Found<'a> {
    Page(&'a Page),
    /// A directory, asked for without its slash: relative links in its page would miss.
    Directory,
}

/// Pages by their decoded path, which begins with a slash; directories by the path that ends in one.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    by_path: HashMap<String, Page>,
    bytes: u64,
}

impl Pages {
    /// Reads every file under `directory` but those whose name begins with a dot; `None`: no pages.
    pub(crate) fn load(directory: Option<&Path>) -> Result<Self, Failure> {
        let mut pages = Self::default();
        if let Some(directory) = directory {
            let wrong = |why: String| Failure::Configuration(format!("admin.pages: {why}"));
            let root = directory.canonicalize().map_err(|error| wrong(format!("{}: {error}", directory.display())))?;
            pages.add(&root, &root, "/", 0).map_err(wrong)?;
        }
        Ok(pages)
    }

    fn add(&mut self, root: &Path, directory: &Path, at: &str, depth: usize) -> Result<(), String> {
        let failed = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
        if depth > DEEPEST {
            return Err(format!("{}: more than {DEEPEST} directories deep", directory.display()));
        }
        for entry in fs::read_dir(directory).map_err(|error| failed(directory, error))? {
            let path = entry.map_err(|error| failed(directory, error))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                return Err(format!("{}: a name that is not UTF-8 cannot stand in a URL", path.display()));
            };
            if name.starts_with('.') {
                continue;
            }
            // Links are followed (a mounted ConfigMap is made of them), but not out of the directory.
            let file = path.canonicalize().map_err(|error| failed(&path, error))?;
            if !file.starts_with(root) {
                return Err(format!("{}: a link out of the directory", path.display()));
            }
            let metadata = fs::metadata(&file).map_err(|error| failed(&path, error))?;
            if metadata.is_dir() {
                self.add(root, &path, &format!("{at}{name}/"), depth + 1)?;
            } else if metadata.is_file() {
                self.bytes += metadata.len();
                if self.bytes > MOST_BYTES || self.by_path.len() >= MOST_FILES {
                    return Err(format!(
                        "{}: more than {MOST_FILES} files or {} MiB; is it the right directory?",
                        root.display(),
                        MOST_BYTES >> 20
                    ));
                }
                let body = fs::read(&file).map_err(|error| failed(&path, error))?.into();
                let page = Page { content_type: content_type(name), body };
                if name == "index.html" {
                    self.by_path.insert(at.to_owned(), page.clone());
                }
                self.by_path.insert(format!("{at}{name}"), page);
            }
        }
        Ok(())
    }

    /// The page at a decoded path.
    pub(crate) fn find(&self, path: &str) -> Option<Found<'_>> {
        match self.by_path.get(path) {
            Some(page) => Some(Found::Page(page)),
            None => self.by_path.contains_key(&format!("{path}/")).then_some(Found::Directory),
        }
    }
}

/// By the name's ending; what is unknown is downloaded, not shown.
fn content_type(name: &str) -> &'static str {
    let ending = name.rsplit_once('.').map_or(String::new(), |(_, ending)| ending.to_ascii_lowercase());
    match ending.as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "txt" | "md" => "text/plain; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "wasm" => "application/wasm",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "wav" => "audio/wav",
        "mp3" => "audio/mpeg",
        "ogg" | "opus" => "audio/ogg",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_and_styles_have_the_types_that_nosniff_demands() {
        assert_eq!(content_type("sip.min.JS"), "text/javascript; charset=utf-8");
        assert_eq!(content_type("phone.css"), "text/css; charset=utf-8");
        assert_eq!(content_type("README"), "application/octet-stream");
        assert_eq!(content_type("x.exe"), "application/octet-stream");
    }

    #[test]
    fn without_a_directory_there_are_no_pages() {
        let pages = Pages::load(None).unwrap_or_default();
        assert_eq!(pages.find("/"), None);
    }
}
