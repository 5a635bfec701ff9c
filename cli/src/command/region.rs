//! `fleetune region …`.

use crate::args::{Format, RegionVerb};
use crate::client::Fleet;
use crate::error::{CliResult, Exit};
use crate::render;

/// Runs a verb.
pub async fn run(verb: RegionVerb, mut fleet: Fleet, format: Format) -> CliResult<Exit> {
    match verb {
        RegionVerb::List(args) => {
            let regions = fleet.regions(args.class.as_deref(), args.model.as_deref()).await?;
            render::print(format, &regions, |regions| render::regions(regions))?;
        }
        RegionVerb::Show { id } => render::print(format, &fleet.region(id).await?, render::region)?,
        RegionVerb::Delete { id } => render::print(format, &fleet.delete_region(id).await?, |region| {
            format!("unsafe region {} is forgotten: searches on `{}` may run it again", region.id, region.device_class)
        })?,
    }
    Ok(Exit::Done)
}
