//! The files of a repository at a revision, as the hub lists them.

use crate::config::model_id::{ModelId, is_commit, is_file};
use crate::model_store::client::Client;
use crate::model_store::error::{FetchError, RequestContext};
use crate::model_store::verify::Checksum;
use serde::Deserialize;

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    /// Its path in the repository.
    pub name: String,
    /// Its size, where the hub says it.
    pub bytes: Option<u64>,
    /// Its checksum, where the hub says it.
    pub checksum: Option<Checksum>,
}

/// A repository at one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The commit.
    pub commit: String,
    /// All files whose names stay inside their directory on every system.
    pub files: Vec<RemoteFile>,
}

#[derive(Deserialize)]
struct Answer {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    size: Option<u64>,
}

/// Asks the hub for the files of a revision, with sizes and checksums.
pub(crate) fn list(client: &Client, id: &ModelId) -> Result<Listing, FetchError> {
    let body = client.model_info(id)?;
    parse(&body).map_err(|why| RequestContext { hub: &client.hub, id, file: None }.not_a_hub(&why))
}

fn parse(body: &str) -> Result<Listing, String> {
    let Answer { sha, siblings } = serde_json::from_str(body).map_err(|err| err.to_string())?;
    if !is_commit(&sha) {
        return Err(format!("its commit is {sha:?}"));
    }
    // No file of a model has a name that leaves its directory, so such names are left out.
    let kept = siblings.into_iter().filter(|file| is_file(&file.rfilename));
    let files = kept.map(|file| {
        let lfs = file.lfs.as_ref();
        let sum = lfs.map_or(file.blob.as_deref(), |lfs| lfs.sha256.as_deref());
        RemoteFile {
            bytes: lfs.and_then(|lfs| lfs.size).or(file.size),
            checksum: sum.and_then(Checksum::of_etag),
            name: file.rfilename,
        }
    });
    Ok(Listing { commit: sha, files: files.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_checksums_are_taken_and_names_that_leave_are_not() {
        let (sha, git, lfs) = ("a".repeat(40), "b".repeat(40), "c".repeat(64));
        let body = serde_json::json!({ "sha": sha, "siblings": [
            { "rfilename": "config.json", "size": 5, "blobId": git },
            { "rfilename": "model.safetensors", "size": 9, "blobId": git, "lfs": { "sha256": lfs, "size": 9, "pointerSize": 1 } },
            { "rfilename": "old.json" },
            { "rfilename": "../../evil" }, { "rfilename": "/etc/x" }, { "rfilename": "a\\b" },
        ]});
        let listing = parse(&body.to_string()).unwrap();
        let names: Vec<&str> = listing.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["config.json", "model.safetensors", "old.json"]);
        assert_eq!(listing.files[0].checksum, Some(Checksum::Git(git)));
        assert_eq!((listing.files[1].bytes, &listing.files[1].checksum), (Some(9), &Some(Checksum::Sha256(lfs))));
        assert_eq!((listing.files[2].bytes, &listing.files[2].checksum), (None, &None));
        assert!(parse("{\"sha\":\"../x\"}").unwrap_err().contains("commit"));
        assert!(parse("<html>").is_err());
    }
}
