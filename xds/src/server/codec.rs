//! Requests and responses from and to bytes.

use std::marker::PhantomData;

use prost::Message;
use tonic::{
    Status,
    codec::{Codec, EncodeBuf, Encoder},
};
use tonic_prost::ProstDecoder;

use super::message::{encode, encoded_len};
use crate::session::{Protocol, Response};

/// Reads the requests `Req` of a variant of the protocol, and writes its responses.
#[derive(Debug)]
pub(super) struct Dialect<Req> {
    protocol: Protocol,
    requests: PhantomData<Req>,
}

impl<Req> Dialect<Req> {
    pub(super) fn new(protocol: Protocol) -> Self {
        Self { protocol, requests: PhantomData }
    }
}

impl<Req: Message + Default + Send + 'static> Codec for Dialect<Req> {
    type Encode = Response;
    type Decode = Req;
    type Encoder = ResponseEncoder;
    type Decoder = ProstDecoder<Req>;

    fn encoder(&mut self) -> Self::Encoder {
        ResponseEncoder(self.protocol)
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::default()
    }
}

/// Writes each response into a buffer of its size, as one that grows would copy it several times.
#[derive(Debug)]
pub(super) struct ResponseEncoder(Protocol);

impl Encoder for ResponseEncoder {
    type Item = Response;
    type Error = Status;

    fn encode(&mut self, response: Response, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(encoded_len(self.0, &response));
        encode(self.0, &response, out);
        Ok(())
    }
}
