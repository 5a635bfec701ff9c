//! Every call with messages that nobody would send: no panic, no half-written row.
//!
//! `FUZZ_ROUNDS=1000 FUZZ_SEED=7 cargo test -p fleetune-coordinator --test fuzz` goes further.

use std::collections::HashMap;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _};
use fleetune_coordinator::scheduler::EngineOptions;
use fleetune_coordinator::storage::testing::PrivatePostgres;
use fleetune_coordinator::storage::transfer;
use fleetune_coordinator::{Coordinator, Server};
use fleetune_proto::v1;
use fleetune_proto::v1::fleet_service_client::FleetServiceClient;
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FileDescriptorSet};
use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha8Rng};
use tokio_util::sync::CancellationToken;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// Messages nested deeper than this are left empty.
const DEPTH: usize = 6;
/// How long one call may take: long polls are cut by it.
const PATIENCE: Duration = Duration::from_millis(300);

/// Bytes as they are.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        buffer.advance(buffer.remaining());
        Ok(Some(()))
    }
}

/// The protocol: every call with the type of its request, and every type.
struct Protocol {
    calls: Vec<(String, String)>,
    types: HashMap<String, DescriptorProto>,
}

impl Protocol {
    fn new() -> Self {
        let (mut calls, mut types) = (Vec::new(), HashMap::new());
        for file in FileDescriptorSet::decode(fleetune_proto::DESCRIPTORS).unwrap().file {
            for message in &file.message_type {
                collect(&format!(".{}", file.package()), message, &mut types);
            }
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    calls.push((path, method.input_type().to_owned()));
                }
            }
        }
        assert!(calls.len() > 50 && types.len() > 100, "{} calls, {} types", calls.len(), types.len());
        Self { calls, types }
    }

    /// A message of a type, with everything that the wire allows.
    fn message(&self, name: &str, depth: usize, rng: &mut ChaCha8Rng) -> Vec<u8> {
        let mut bytes = Vec::new();
        let Some(descriptor) = self.types.get(name).filter(|_| depth < DEPTH) else { return bytes };
        for field in &descriptor.field {
            let times = match field.label() {
                Label::Repeated => rng.random_range(0..4),
                Label::Optional | Label::Required => u32::from(rng.random_bool(0.8)),
            };
            for _ in 0..times {
                let number = field.number() as u32;
                match field.r#type() {
                    Type::Message | Type::Group => {
                        let inner = self.message(field.type_name(), depth + 1, rng);
                        delimited(number, &inner, &mut bytes);
                    }
                    Type::String => delimited(number, text(rng).as_bytes(), &mut bytes),
                    Type::Bytes => {
                        let length = *pick(&[0, 1, 31, 32, 33], rng);
                        delimited(number, &vec![rng.random(); length], &mut bytes);
                    }
                    Type::Double => {
                        tag(number, 1, &mut bytes);
                        bytes.put_f64_le(float(rng));
                    }
                    Type::Fixed64 | Type::Sfixed64 => {
                        tag(number, 1, &mut bytes);
                        bytes.put_u64_le(rng.random());
                    }
                    Type::Float => {
                        tag(number, 5, &mut bytes);
                        bytes.put_f32_le(float(rng) as f32);
                    }
                    Type::Fixed32 | Type::Sfixed32 => {
                        tag(number, 5, &mut bytes);
                        bytes.put_u32_le(rng.random());
                    }
                    Type::Enum | Type::Bool => {
                        tag(number, 0, &mut bytes);
                        varint(rng.random_range(0..6), &mut bytes);
                    }
                    _ => {
                        tag(number, 0, &mut bytes);
                        varint(integer(rng), &mut bytes);
                    }
                }
            }
        }
        bytes
    }
}

fn collect(prefix: &str, message: &DescriptorProto, types: &mut HashMap<String, DescriptorProto>) {
    let name = format!("{prefix}.{}", message.name());
    for nested in &message.nested_type {
        collect(&name, nested, types);
    }
    types.insert(name, message.clone());
}

fn varint(mut value: u64, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn tag(number: u32, wire: u32, bytes: &mut Vec<u8>) {
    varint(u64::from(number << 3 | wire), bytes);
}

fn delimited(number: u32, content: &[u8], bytes: &mut Vec<u8>) {
    tag(number, 2, bytes);
    varint(content.len() as u64, bytes);
    bytes.extend_from_slice(content);
}

fn pick<'a, T>(from: &'a [T], rng: &mut ChaCha8Rng) -> &'a T {
    &from[rng.random_range(0..from.len())]
}

fn text(rng: &mut ChaCha8Rng) -> String {
    let known =
        ["", "s", "t", "x", "y", "1", "0", "a/b", "\u{1f600}", "\0", "a\nb", "{}", "[1,2]", "null", "x > 0.5", "x <"];
    let worker = "a".repeat(32);
    match rng.random_range(0..20) {
        0 => "z".repeat(rng.random_range(0..5_000)),
        1 => worker,
        2 => format!("{}-{}-{:016x}", rng.random_range(0..9), rng.random_range(0..3), rng.random::<u64>()),
        3 => r#"{"name":"FloatDistribution","attributes":{"low":0.0,"high":1.0,"log":false,"step":null}}"#.to_owned(),
        _ => (*pick(&known, rng)).to_owned(),
    }
}

fn float(rng: &mut ChaCha8Rng) -> f64 {
    *pick(&[0.0, -0.0, 1.0, 0.5, -1.0, 1e300, f64::MIN_POSITIVE, f64::NAN, f64::INFINITY, f64::NEG_INFINITY], rng)
}

fn integer(rng: &mut ChaCha8Rng) -> u64 {
    let wild = rng.random();
    *pick(&[0, 1, 2, 3, 10, 1_000, 1 << 31, (1 << 32) - 1, 1 << 53, i64::MAX as u64, u64::MAX, wild], rng)
}

async fn call(channel: &Channel, path: &str, body: Vec<u8>) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let answered = async {
        let request = Request::new(tokio_stream::once(body));
        let mut answers = client.streaming(request, path.parse().unwrap(), Raw).await?.into_inner();
        while answers.message().await?.is_some() {}
        Ok(())
    };
    // Long polls and watchers are cut.
    tokio::time::timeout(PATIENCE, answered).await.unwrap_or(Ok(()))
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

async fn fuzz(url: &str) {
    let stop = CancellationToken::new();
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap().with_rate_limit(0);
    let address = server.address();
    let coordinator = Coordinator::start(url, EngineOptions::default(), stop.clone()).await.unwrap();
    let served = tokio::spawn(async move {
        let served = server.serve(&coordinator).await;
        coordinator.close().await;
        served
    });
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let protocol = Protocol::new();
    let mut rng = ChaCha8Rng::seed_from_u64(number("FUZZ_SEED", 0));
    let (mut taken, mut refused) = (0, 0);
    for round in 0..number("FUZZ_ROUNDS", 12) {
        for (path, input) in &protocol.calls {
            // A token would lock everybody out, this test too.
            if path.ends_with("/CreateToken") {
                continue;
            }
            let mut body = protocol.message(input, 0, &mut rng);
            if round % 4 == 3 {
                // What is no message at all: cut off, or with bytes turned over.
                body.truncate(rng.random_range(0..=body.len()));
                for byte in &mut body {
                    if rng.random_bool(0.05) {
                        *byte = rng.random();
                    }
                }
            }
            match call(&channel, path, body.clone()).await {
                Ok(()) => taken += 1,
                Err(status) => {
                    // What cannot be decoded is INTERNAL to tonic; a handler that panics breaks the stream instead.
                    let undecodable = status.message().contains("decode");
                    let broken =
                        matches!(status.code(), Code::Internal | Code::Unknown | Code::DataLoss) && !undecodable;
                    assert!(!broken, "{path} {body:?}: {status:?}");
                    refused += 1;
                }
            }
        }
    }
    FleetServiceClient::new(channel).fleet_status(v1::FleetStatusRequest {}).await.unwrap();
    assert!(taken > 50 && refused > 50, "{taken} calls were taken, {refused} refused");
    stop.cancel();
    served.await.unwrap().unwrap();
    let found = transfer::examine(url).await.unwrap();
    assert_eq!(found.faults, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_harms_a_coordinator_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    fuzz(&format!("sqlite://{}", folder.path().join("fleetune.db").display())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_harms_a_coordinator_on_postgres() {
    fuzz(&PrivatePostgres::start().empty_database()).await;
}
