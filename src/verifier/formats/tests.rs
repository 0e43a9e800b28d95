use super::*;

const CODE: &[u8] = b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00id\x85R.";
const CODE_AS_TEXT: &[u8] = b"cposix\nsystem\n(S'id'\ntR.";

fn safetensors(data: &[u8]) -> Vec<u8> {
    let header = format!(r#"{{"t":{{"dtype":"U8","shape":[{0}],"data_offsets":[0,{0}]}}}}"#, data.len());
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// An archive of members that are stored or deflated as they are given: name, method, bytes in the archive.
fn zip(members: &[(&str, u16, &[u8])]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, method, stored) in members {
        let local = u32::try_from(bytes.len()).unwrap();
        let size = u32::try_from(stored.len()).unwrap().to_le_bytes();
        let length = u16::try_from(name.len()).unwrap().to_le_bytes();
        let common = [&[20, 0, 0, 0][..], &method.to_le_bytes(), &[0; 8], &size, &size, &length, &[0, 0]].concat();
        bytes.extend([b"PK\x03\x04", common.as_slice(), name.as_bytes(), stored].concat());
        directory
            .extend([b"PK\x01\x02\x14\0", common.as_slice(), &[0; 10], &local.to_le_bytes(), name.as_bytes()].concat());
    }
    let offset = u32::try_from(bytes.len()).unwrap().to_le_bytes();
    let length = u32::try_from(directory.len()).unwrap().to_le_bytes();
    let count = u16::try_from(members.len()).unwrap().to_le_bytes();
    [
        bytes,
        directory,
        b"PK\x05\x06\0\0\0\0".to_vec(),
        [count, count].concat(),
        length.into(),
        offset.into(),
        vec![0, 0],
    ]
    .concat()
}

fn npy(descr: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({},), }}\n", data.len());
    [numpy::MAGIC, &[1, 0], &u16::try_from(header.len()).unwrap().to_le_bytes(), header.as_bytes(), data].concat()
}

fn hdf5() -> Vec<u8> {
    let mut bytes = [hdf5::MAGIC, &[2, 8, 8, 0], &0u64.to_le_bytes(), &u64::MAX.to_le_bytes()].concat();
    bytes.extend(64u64.to_le_bytes());
    bytes.resize(64, 0);
    bytes
}

fn tar() -> Vec<u8> {
    let mut bytes = vec![0; 1024];
    bytes[..6].copy_from_slice(b"pickle");
    bytes[148..156].copy_from_slice(b"        ");
    let sum: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum();
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    bytes
}

fn content(bytes: &[u8]) -> Content {
    recognise(&bytes).unwrap_or_else(|problem| panic!("{problem}"))
}

#[test]
fn files_are_known_by_their_bytes() {
    let weights = Content::Weights;
    for (bytes, expected) in [
        (safetensors(b"abc"), weights(Format::Safetensors)),
        (CODE.into(), weights(Format::Pickle)),
        (CODE_AS_TEXT.into(), weights(Format::Pickle)),
        (b"\x80\x04N.".into(), weights(Format::Pickle)),
        (tar(), weights(Format::Pickle)),
        (zip(&[("m/data.pkl", 0, CODE), ("m/data/0", 0, &[1; 64])]), weights(Format::Pickle)),
        (npy("|u1", &[1, 2]), weights(Format::NumPy)),
        (npy("|O", CODE), weights(Format::Pickle)),
        (zip(&[("a.npy", 0, &npy("|u1", &[1])), ("b.npy", 0, &npy("|u1", &[2]))]), weights(Format::NumPy)),
        (zip(&[("a.npy", 0, &npy("|u1", &[1])), ("b.npy", 0, &npy("|O", CODE))]), weights(Format::Pickle)),
        (hdf5(), weights(Format::Hdf5)),
        (zip(&[("config.json", 0, b"{}"), ("model.weights.h5", 0, &hdf5())]), weights(Format::Hdf5)),
        ([&[28, 0, 0, 0], b"TFL3".as_slice(), &[0; 20]].concat(), weights(Format::TensorFlow)),
        (Vec::new(), Content::Companion),
        (b"{\"model_type\": \"llama\"}\n".into(), Content::Companion),
        ("# Modell für Übungen\n".into(), Content::Companion),
        (b"cat\ndog\nbird\n".into(), Content::Companion),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".into(), Content::Companion),
        (b"\x7fELF\x02\x01\x01".into(), Content::Unknown("a program")),
        (b"#!/bin/sh\nid\n".into(), Content::Unknown("a program")),
        (zip(&[("a.txt", 0, b"text")]), Content::Unknown("a zip archive")),
        (vec![0, 1, 2, 0xff], Content::Unknown("of no known format")),
    ] {
        assert_eq!(content(&bytes), expected, "{:.60?}", bytes.escape_ascii().to_string());
    }
}

#[test]
fn compressed_members_are_looked_into() {
    let deflated = |bytes: &[u8]| miniz_oxide::deflate::compress_to_vec(bytes, 6);
    let array = deflated(&npy("|u1", &[9; 3000]));
    assert_eq!(content(&zip(&[("a.npy", 8, &array)])), Content::Weights(Format::NumPy));
    for hidden in [npy("|O", CODE), CODE.to_vec(), CODE_AS_TEXT.to_vec()] {
        let hidden = deflated(&hidden);
        assert_eq!(content(&zip(&[("a.npy", 8, &array), ("b.npy", 8, &hidden)])), Content::Weights(Format::Pickle));
    }
}

#[test]
fn a_file_that_is_two_things_is_refused() {
    let archive = zip(&[("data.pkl", 0, CODE)]);
    for (bytes, expected) in [
        (safetensors(&archive), "it is Safetensors, and a zip archive is appended to it"),
        ([npy("|u1", &[1, 2]), archive.clone()].concat(), "but its dtype and shape need 2 bytes"),
        ([b"junk".to_vec(), archive.clone()].concat(), "and a zip archive is appended to it"),
        (
            [b"\x89PNG\r\n\x1a\n".to_vec(), archive.clone()].concat(),
            "it is an image, and a zip archive is appended to it",
        ),
        ([archive.clone(), b"junk".to_vec()].concat(), "the end is not the end of the file"),
        ([archive.clone(), archive.clone()].concat(), "something stands ahead of the archive"),
        (archive[..archive.len() - 1].into(), "it is a zip archive without an end"),
        (aligned(&hdf5()), "and an HDF5 file behind its first bytes"),
        (
            [hdf5(), b"more".to_vec()].concat(),
            "it begins as HDF5, but it says that it goes from byte 0 to 64, the file has 68",
        ),
    ] {
        let said = recognise(&bytes.as_slice()).unwrap_err().to_string();
        assert!(said.contains(expected), "{said:?} does not say {expected:?}");
    }
}

/// A safetensors file with these bytes at offset 512.
fn aligned(at_512: &[u8]) -> Vec<u8> {
    let total = 512 + at_512.len();
    let mut data = total - safetensors(&[]).len();
    while safetensors(&vec![0; data]).len() > total {
        data -= 1;
    }
    let mut bytes = safetensors(&vec![0; data]);
    assert_eq!(bytes.len(), total);
    bytes[512..].copy_from_slice(at_512);
    bytes
}

#[test]
fn a_pickle_ahead_of_tensors_is_refused() {
    // As a pickle, the length is a string of 64 bytes, and the code follows within a text of the header. Its names are
    // those of 32 characters, its import is the second byte of a letter.
    let length = 256 * 64 + u64::from(b'X');
    let file = |code: &[u8]| {
        let mut header = br#"{"__metadata__":{"x":""#.to_vec();
        header.resize(5 + 64 - 8, b'x');
        header.extend(code);
        header.extend(br#""}}"#);
        header.resize(usize::try_from(length).unwrap(), b' ');
        [&length.to_le_bytes()[..], &header].concat()
    };
    let name = [b"U ".as_slice(), &[b'a'; 32]].concat();
    let code = [name.as_slice(), &name, "q\u{413})R".as_bytes()].concat();
    assert_eq!(content(&file(b"")), Content::Weights(Format::Safetensors));
    let said = recognise(&file(&code).as_slice()).unwrap_err().to_string();
    assert_eq!(said, "it is Safetensors, and a pickle that runs code at the same time");
    // A protocol 2 pickle whose bytes begin as a length: refused whatever it is.
    let claims = [b"\x80\x02\0\0\0\0\0\0{".as_slice(), &[b' '; 700]].concat();
    assert_eq!(content(&claims), Content::Weights(Format::Pickle));
}

#[test]
fn only_what_is_allowed_passes() {
    let said = |bytes: &[u8], allowed: &[Format]| check(&bytes, allowed).unwrap_err().to_string();
    assert!(check(&safetensors(b"x").as_slice(), &[Format::Safetensors]).is_ok());
    assert!(check(&b"{}".as_slice(), &[Format::Safetensors]).is_ok());
    assert_eq!(said(CODE, &[Format::Safetensors, Format::Gguf]), "it is Pickle; allowed: Safetensors, GGUF");
    assert_eq!(said(CODE_AS_TEXT, &[Format::Other]), "it is Pickle; allowed: Other");
    assert_eq!(said(&[0, 255], &[Format::Pickle]), "it is of no known format, so Other; allowed: Pickle");
    assert!(check(&[0, 255].as_slice(), &[Format::Other]).is_ok());
    assert!(check(&CODE, &[Format::Pickle]).is_ok());
    // What claims to be of a format and is not is refused whatever is allowed.
    let broken = &safetensors(b"x")[..40];
    assert!(said(broken, &Format::ALL).contains("it begins as Safetensors, but its header has"));
}
