//! Files of resources that both servers read: length-delimited `envoy.service.discovery.v3.Resource` messages.

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    path::Path,
};

use bytes::Bytes;
use envoy_types::pb::{envoy::service::discovery::v3::Resource as Wrapped, google::protobuf::Any};
use prost::Message;
use xds::ResourceType;

use crate::Failure;

/// A resource, encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) ty: ResourceType,
    pub(crate) name: String,
    pub(crate) body: Bytes,
}

pub(crate) fn write(path: &Path, resources: &[Resource]) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    for resource in resources {
        let any = Any { type_url: resource.ty.type_url().to_owned(), value: resource.body.to_vec() };
        Wrapped { name: resource.name.clone(), resource: Some(any), ..Wrapped::default() }
            .encode_length_delimited(&mut bytes)?;
    }
    Ok(File::create(path)?.write_all(&bytes)?)
}

/// Reads a file bit by bit, so that a server's memory afterwards is that of its resources.
pub(crate) fn read(path: &Path) -> Result<impl Iterator<Item = Result<Resource, Failure>>, Failure> {
    let mut reader = BufReader::new(File::open(path)?);
    Ok(std::iter::from_fn(move || next(&mut reader).transpose()))
}

fn next(reader: &mut impl BufRead) -> Result<Option<Resource>, Failure> {
    if reader.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let mut length = Vec::new();
    while length.last().is_none_or(|byte| byte & 0x80 != 0) {
        let mut byte = [0];
        reader.read_exact(&mut byte)?;
        length.extend(byte);
    }
    let mut message = vec![0; prost::decode_length_delimiter(length.as_slice())?];
    reader.read_exact(&mut message)?;
    let wrapped = Wrapped::decode(message.as_slice())?;
    let any = wrapped.resource.ok_or("a resource without content")?;
    let ty = ResourceType::from_type_url(&any.type_url).ok_or_else(|| any.type_url.clone())?;
    Ok(Some(Resource { ty, name: wrapped.name, body: any.value.into() }))
}
