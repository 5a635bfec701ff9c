//! Writes a synthetic model: `cargo run -p fleetune-model --example synth -- 15m q4_0 FILE [SEED]`.
//!
//! For development; people use `fleetune model synth`.

use std::fs::File;
use std::io::{BufWriter, Error, Write};

use fleetune_model::{SynthQuant, SynthSize, SynthSpec};

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (spec, path) = parse(&arguments)
        .ok_or_else(|| Error::other("usage: synth tiny|15m|110m q4_0|q8_0|f16 FILE [SEED, a whole number]"))?;
    let mut out = BufWriter::new(File::create(path)?);
    spec.write(&mut out)?;
    out.flush()
}

fn parse(arguments: &[String]) -> Option<(SynthSpec, &str)> {
    let (size, quant, path, seed) = match arguments {
        [size, quant, path] => (size, quant, path, 1),
        [size, quant, path, seed] => (size, quant, path, seed.parse().ok()?),
        _ => return None,
    };
    Some((SynthSpec { size: SynthSize::from_name(size)?, quant: SynthQuant::from_name(quant)?, seed }, path))
}
