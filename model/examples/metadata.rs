//! Prints what the header of a model says, as one line of JSON: `cargo run -p fleetune-model --example metadata -- FILE`.
//!
//! For fixtures; people use `fleetune model show`.

use std::fs::File;
use std::io::{Error, Write};

use fleetune_model::ModelMetadata;
use fleetune_model::gguf::Header;

fn main() -> Result<(), Error> {
    let path = std::env::args().nth(1).ok_or_else(|| Error::other("usage: metadata FILE"))?;
    let header = Header::read(&mut File::open(path)?).map_err(Error::other)?;
    writeln!(std::io::stdout(), "{}", serde_json::to_string(&ModelMetadata::from_header(&header))?)
}
