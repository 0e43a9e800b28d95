//! Reading manifests: files, directories, standard input.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::CliError;

/// Most bytes that are read from one file: far more than an API server takes, far less than fills a memory.
const MAX_BYTES: u64 = 64 << 20;

/// One object, and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// File and number of the document in it.
    pub origin: String,
    /// The object.
    pub object: Value,
}

/// Reads a file, a directory (its `.yaml`, `.yml` and `.json` files, with all beneath it) or, for `-`, `input`.
///
/// # Errors
/// Where something cannot be read or is no YAML. Nothing is passed over.
pub fn read(path: &Path, input: &mut dyn Read) -> Result<Vec<Document>, CliError> {
    let file_error = |path: &Path, source| CliError::File { path: path.display().to_string(), source };
    if path == Path::new("-") {
        let text = read_text(input).map_err(|source| file_error(Path::new("standard input"), source))?;
        return parse("standard input", &text);
    }
    let mut files = Vec::new();
    collect(path, &mut files)?;
    let mut documents = Vec::new();
    for file in files {
        let mut opened = std::fs::File::open(&file).map_err(|source| file_error(&file, source))?;
        let text = read_text(&mut opened).map_err(|source| file_error(&file, source))?;
        documents.extend(parse(&file.display().to_string(), &text)?);
    }
    Ok(documents)
}

fn read_text(input: &mut dyn Read) -> std::io::Result<String> {
    let mut text = String::new();
    let mut limited = input.take(MAX_BYTES + 1);
    limited.read_to_string(&mut text)?;
    match limited.limit() {
        0 => Err(std::io::Error::other("it has more than 64 MiB")),
        _ => Ok(text),
    }
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), CliError> {
    let error = |source| CliError::File { path: path.display().to_string(), source };
    if !std::fs::metadata(path).map_err(error)?.is_dir() {
        files.push(path.into());
        return Ok(());
    }
    let mut entries: Vec<PathBuf> = std::fs::read_dir(path)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .map_err(error)?;
    entries.sort();
    for entry in entries {
        let is_manifest =
            entry.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known));
        // A directory that is a link is not followed: it may lead around in a circle.
        if is_manifest || entry.is_dir() && !entry.is_symlink() {
            collect(&entry, files)?;
        }
    }
    Ok(())
}

/// Parses the documents of a text. Empty ones are left out, lists are taken apart.
///
/// # Errors
/// Where the text is no YAML, or a document is no Kubernetes object.
pub fn parse(origin: &str, text: &str) -> Result<Vec<Document>, CliError> {
    let manifest = |origin: &str, problem: String| CliError::Manifest { origin: origin.into(), problem };
    // As in kubectl, YAML 1.1 booleans such as `yes` are booleans; a key that is given twice is an error.
    let parsed: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| manifest(origin, error.to_string().trim().to_owned()))?;
    let mut documents = Vec::new();
    for (index, object) in parsed.into_iter().enumerate() {
        let origin = format!("{origin}, document {}", index + 1);
        take_apart(&origin, object, &mut documents).map_err(|problem| manifest(&origin, problem))?;
    }
    Ok(documents)
}

fn take_apart(origin: &str, mut object: Value, documents: &mut Vec<Document>) -> Result<(), String> {
    if object.is_null() {
        return Ok(());
    }
    let kind = object.get("kind").and_then(Value::as_str).ok_or("kind is missing")?.to_owned();
    let version = object.get("apiVersion").and_then(Value::as_str).ok_or("apiVersion is missing")?.to_owned();
    let Some(item_kind) = kind.strip_suffix("List").filter(|_| object.get("items").is_some()) else {
        documents.push(Document { origin: origin.into(), object });
        return Ok(());
    };
    let Some(Value::Array(items)) = object.get_mut("items").map(Value::take) else {
        return Err(format!("items of the {kind} is no list"));
    };
    for (index, mut item) in items.into_iter().enumerate() {
        if let (Some(fields), false) = (item.as_object_mut(), item_kind.is_empty()) {
            fields.entry("kind").or_insert_with(|| item_kind.into());
            fields.entry("apiVersion").or_insert_with(|| version.clone().into());
        }
        take_apart(&format!("{origin}, item {}", index + 1), item, documents)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_and_lists_are_taken_apart() {
        let text = "apiVersion: v1\nkind: A\n---\n---\napiVersion: v1\nkind: PodList\nitems:\n- {metadata: {name: a}}\n- {kind: Pod, apiVersion: v1}\n---\napiVersion: v1\nkind: List\nitems: [{kind: B, apiVersion: b/v1}]\n";
        let documents = parse("f", text).unwrap();
        let kinds: Vec<_> = documents.iter().map(|d| d.object["kind"].as_str().unwrap_or_default()).collect();
        assert_eq!(kinds, ["A", "Pod", "Pod", "B"]);
        assert!(documents[1].origin.ends_with(", item 1"), "{}", documents[1].origin);
    }

    #[test]
    fn what_is_no_manifest_is_an_error() {
        for (text, problem) in [
            ("a: 1\na: 2", "duplicate"),
            ("kind: A", "apiVersion is missing"),
            ("- x", "kind is missing"),
            ("apiVersion: v1\nkind: PodList\nitems: 3", "items of the PodList is no list"),
            ("a: [", ""),
        ] {
            let error = parse("f", text).unwrap_err().to_string();
            assert!(error.starts_with("f") && error.contains(problem), "{error}");
            assert!(error.ends_with("Nothing of it was checked; correct it first."), "{error}");
        }
    }

    #[test]
    fn scalars_are_what_kubectl_takes_them_for() {
        let object = &parse("f", "apiVersion: v1\nkind: A\na: yes\nb: \"yes\"\nc: On\nd: 010\ne: 1e3\nf: ~\ng: 0x10")
            .unwrap()[0]
            .object;
        assert_eq!(object["a"], Value::Bool(true));
        assert_eq!(object["b"], Value::String("yes".into()));
        assert_eq!(object["c"], Value::Bool(true));
        assert_eq!(object["f"], Value::Null);
    }

    #[test]
    fn a_directory_is_read_with_all_beneath_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub/b.yml"), "{apiVersion: v1, kind: B}").unwrap();
        std::fs::write(dir.path().join("a.yaml"), "{apiVersion: v1, kind: A}").unwrap();
        std::fs::write(dir.path().join("README.md"), "no manifest").unwrap();
        let documents = read(dir.path(), &mut std::io::empty()).unwrap();
        assert_eq!(documents.iter().map(|d| &d.object["kind"]).collect::<Vec<_>>(), ["A", "B"]);
        let error = read(&dir.path().join("none"), &mut std::io::empty()).unwrap_err().to_string();
        assert!(error.contains("none: No such file"), "{error}");
        let stdin = read(Path::new("-"), &mut b"{apiVersion: v1, kind: C}".as_slice()).unwrap();
        assert_eq!(stdin[0].origin, "standard input, document 1");
    }
}
