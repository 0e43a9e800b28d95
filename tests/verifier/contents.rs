//! What the files are: formats, recognised by their bytes.

use std::fs;

use weightlock::verifier::args::Target;
use weightlock::verifier::finding::{Reason, exit};
use weightlock::verifier::formats::Format;

use crate::volume::*;

const PICKLE: &[u8] = b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00id\x85R.";

fn safetensors(data: &[u8]) -> Vec<u8> {
    let header = format!(r#"{{"t":{{"dtype":"U8","shape":[{0}],"data_offsets":[0,{0}]}}}}"#, data.len());
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

fn allowing(volume: &Volume, formats: &[Format]) -> Target {
    Target { formats: formats.into(), ..volume.target() }
}

#[test]
fn a_pickle_is_refused_where_safetensors_are_allowed_whatever_its_name() {
    let weights = safetensors(&[7; 3000]);
    let honest = sealed(&[("config.json", b"{}"), ("model.safetensors", &weights), ("README.md", b"# Orion\n")]);
    assert_eq!(findings(&allowing(&honest, &[Format::Safetensors])), []);
    for name in ["pytorch_model.bin", "config.json", "model.safetensors", ".hidden"] {
        let volume = sealed(&[("a.safetensors", &weights), (name, PICKLE)]);
        assert_eq!(findings(&allowing(&volume, &[Format::Safetensors])), one(Reason::FormatNotAllowed, name));
        // What nothing is asked of is not judged, and what is listed passes.
        assert_eq!(volume.findings(), []);
        assert_eq!(findings(&allowing(&volume, &[Format::Safetensors, Format::Pickle])), []);
    }
}

#[test]
fn the_program_says_what_it_found_and_what_is_allowed() {
    let volume = sealed(&[("model.safetensors", PICKLE)]);
    let mut args = verify_args(&volume);
    args.extend(["--formats", "Safetensors,GGUF"].map(Into::into));
    let (code, stdout, _, message) = program(&args.iter().map(|arg| arg.as_os_str()).collect::<Vec<_>>());
    assert_eq!(code, exit::FORMAT);
    assert_eq!(stdout, message);
    assert!(
        message.contains("[FormatNotAllowed] \"model.safetensors\": it is Pickle; allowed: Safetensors, GGUF"),
        "{message}"
    );
    assert!(message.contains("Remedy: convert the weights to a format of spec.formats"), "{message}");
}

#[test]
fn a_malformed_header_is_refused_whatever_is_allowed() {
    let mut weights = safetensors(&[7; 300]);
    weights.push(0);
    let volume = sealed(&[("model.safetensors", &weights)]);
    assert_eq!(findings(&allowing(&volume, &Format::ALL)), one(Reason::MalformedContent, "model.safetensors"));
}

#[test]
fn right_content_does_not_excuse_wrong_bytes() {
    let volume = sealed(&[("model.safetensors", &safetensors(&[7; 300]))]);
    let mut bytes = fs::read(volume.path("model.safetensors")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(volume.path("model.safetensors"), bytes).unwrap();
    assert_eq!(findings(&allowing(&volume, &[Format::Safetensors])), one(Reason::HashMismatch, "model.safetensors"));
}
