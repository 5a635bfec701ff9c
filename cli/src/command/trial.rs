//! `fleetune trial …`.

use crate::args::{AskArgs, Format, TellArgs, TrialVerb};
use crate::client::{Client, End};
use crate::error::{CliError, CliResult, Exit};
use crate::render;
use crate::view::{ReportView, TrialView, Verdict};

/// Runs a verb.
pub async fn run(verb: TrialVerb, mut client: Client, format: Format) -> CliResult<Exit> {
    match verb {
        TrialVerb::List { study, state } => {
            render::print(format, &client.trials(&study, &state).await?, |trials| render::trials(trials))?;
        }
        TrialVerb::Show { study, number } => {
            render::print(format, &client.trial(&study, number).await?, render::trial)?;
        }
        TrialVerb::Ask(args) => ask(&mut client, &args, format).await?,
        TrialVerb::Report(args) => {
            let verdict = client.report(&args.study, args.number, args.step, args.value, args.token).await?;
            render::print(format, &ReportView { verdict }, |answer| match answer.verdict {
                Verdict::Continue => "continue".to_owned(),
                Verdict::Stop => "stop".to_owned(),
            })?;
        }
        TrialVerb::Tell(args) => {
            let trial = tell(&mut client, args).await?;
            render::print(format, &trial, line)?;
        }
        TrialVerb::Enqueue { study, set, force } => {
            let params = super::tune::options::settings(&set)?;
            render::print(format, &client.enqueue(&study, &params, force).await?, line)?;
        }
        TrialVerb::Cancel { study, number } => {
            render::print(format, &client.cancel_trial(&study, number).await?, line)?;
        }
    }
    Ok(Exit::Done)
}

async fn ask(client: &mut Client, args: &AskArgs, format: Format) -> CliResult<()> {
    if args.shell {
        // Before a trial is started that nobody could measure.
        let space = client.show(&args.study).await?.space;
        space.iter().flat_map(|space| space.parameters().keys()).try_for_each(|name| render::check_variable(name))?;
    }
    let trials = client.ask(&args.study, args.count.unwrap_or(1), args.lease).await?;
    if args.count.is_some() {
        return render::print(format, &trials, |trials| render::asked(trials));
    }
    let Some(trial) = trials.into_iter().next() else {
        return Err(CliError::new(Exit::NotFoundOrConflict, format!("study `{}` gave no trial", args.study)));
    };
    if args.shell {
        return render::out(&render::for_eval(&trial)?);
    }
    render::print(format, &trial, |trial| render::asked(std::slice::from_ref(trial)))
}

async fn tell(client: &mut Client, args: TellArgs) -> CliResult<TrialView> {
    let end = match args.end.fail {
        Some(kind) => End::Fail { kind, message: args.message.unwrap_or_default() },
        None if args.end.state.is_some() => End::Pruned,
        None => End::Complete { values: args.end.value, constraints: constraints(&args.constraint)? },
    };
    client.tell(&args.study, args.number, end, args.token).await
}

fn constraints(given: &[(String, f64)]) -> CliResult<std::collections::BTreeMap<String, f64>> {
    let mut constraints = std::collections::BTreeMap::new();
    for (name, value) in given {
        if constraints.insert(name.clone(), *value).is_some() {
            return Err(CliError::new(Exit::Usage, format!("`--constraint {name}` is given twice")));
        }
    }
    Ok(constraints)
}

/// `trial 3: complete 0.52`.
fn line(trial: &TrialView) -> String {
    format!("trial {}: {} {}", trial.number, trial.state, render::outcome(trial)).trim_end().to_owned()
}
