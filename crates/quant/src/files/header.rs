//! The header of a safetensors file: which tensor lies where.

use std::collections::BTreeMap;
use std::fmt;

use safetensors::tensor::TensorInfo;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::FileError;
use super::json::Object;

/// What the format allows.
pub(crate) const LIMIT: u64 = 100_000_000;
/// Bytes of the length before the header.
pub(crate) const LEN: u64 = 8;
/// The name that is no tensor.
const METADATA: &str = "__metadata__";

/// Names and places of tensors, none of them outside the file.
#[derive(Debug, Default)]
pub(crate) struct Header {
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) tensors: BTreeMap<String, TensorInfo>,
}

/// Reads a header and checks it against the number of bytes that follow it.
pub(crate) fn parse(json: &[u8], n_data: u64) -> Result<Header, FileError> {
    let Entries { metadata, tensors } =
        serde_json::from_slice(json).map_err(|error| FileError::HeaderJson {
            message: error.to_string(),
        })?;
    let tensors = unique(tensors)?;
    check_places(&tensors, n_data)?;
    Ok(Header {
        metadata: unique(metadata)?,
        tensors,
    })
}

fn unique<V>(entries: Vec<(String, V)>) -> Result<BTreeMap<String, V>, FileError> {
    let mut map = BTreeMap::new();
    for (key, value) in entries {
        if map.contains_key(&key) {
            return Err(FileError::DuplicateKey { key });
        }
        map.insert(key, value);
    }
    Ok(map)
}

/// One behind the other, from the first byte to the last, each as long as its type and shape say.
fn check_places(tensors: &BTreeMap<String, TensorInfo>, n_data: u64) -> Result<(), FileError> {
    let mut order: Vec<(&String, &TensorInfo)> = tensors.iter().collect();
    order.sort_by_key(|(_, info)| info.data_offsets);
    let mut at = 0;
    for (name, info) in order {
        let (start, end) = info.data_offsets;
        if start != at || end < start {
            return Err(FileError::Region {
                name: name.clone(),
                expected: at,
                start,
                end,
            });
        }
        let got = end - start;
        if byte_len(info) != Some(got) {
            return Err(FileError::RegionLen {
                name: name.clone(),
                dtype: info.dtype,
                shape: info.shape.clone(),
                got,
            });
        }
        at = end;
    }
    if at as u64 != n_data {
        return Err(FileError::DataLen {
            expected: at as u64,
            got: n_data,
        });
    }
    Ok(())
}

/// Bytes that a type and a shape need, if they are whole and fit.
pub(crate) fn byte_len(info: &TensorInfo) -> Option<usize> {
    let elements = info
        .shape
        .iter()
        .try_fold(1_usize, |product, &len| product.checked_mul(len))?;
    let bits = elements.checked_mul(info.dtype.bitsize())?;
    bits.is_multiple_of(8).then_some(bits / 8)
}

/// The JSON of a header, filled up with spaces to a multiple of eight bytes and to `at_least`.
pub(crate) fn write(
    metadata: &BTreeMap<String, String>,
    tensors: &[(&str, &TensorInfo)],
    at_least: usize,
) -> Result<Vec<u8>, FileError> {
    let json = |error: serde_json::Error| FileError::HeaderJson {
        message: error.to_string(),
    };
    let mut text = String::from("{");
    if !metadata.is_empty() {
        text += &format!(
            "\"{METADATA}\":{}",
            serde_json::to_string(metadata).map_err(json)?
        );
    }
    for (name, info) in tensors {
        if text.len() > 1 {
            text.push(',');
        }
        text += &serde_json::to_string(name).map_err(json)?;
        text.push(':');
        text += &serde_json::to_string(info).map_err(json)?;
    }
    text.push('}');
    let mut bytes = text.into_bytes();
    let len = bytes.len().max(at_least).next_multiple_of(LEN as usize);
    if len as u64 > LIMIT {
        return Err(FileError::HeaderLen {
            limit: LIMIT,
            got: len as u64,
        });
    }
    bytes.resize(len, b' ');
    Ok(bytes)
}

/// All entries as they stand there, twice the same name too.
struct Entries {
    metadata: Vec<(String, String)>,
    tensors: Vec<(String, TensorInfo)>,
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;

        impl<'de> Visitor<'de> for All {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Entries {
                    metadata: Vec::new(),
                    tensors: Vec::new(),
                };
                let mut is_known = false;
                while let Some(key) = map.next_key::<String>()? {
                    if key != METADATA {
                        let Object(info) = map.next_value()?;
                        entries.tensors.push((key, info));
                    } else if is_known {
                        return Err(serde::de::Error::duplicate_field(METADATA));
                    } else {
                        is_known = true;
                        let texts: Option<Texts> = map.next_value()?;
                        entries.metadata = texts.map(|texts| texts.0).unwrap_or_default();
                    }
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(All)
    }
}

/// An object of texts, in its order.
struct Texts(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;

        impl<'de> Visitor<'de> for All {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts, A::Error> {
                let mut texts = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    texts.push(entry);
                }
                Ok(Texts(texts))
            }
        }
        deserializer.deserialize_map(All)
    }
}
