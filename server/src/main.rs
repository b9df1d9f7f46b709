//! The `dbsnap` binary: reads the environment, serves, ends in order when asked to.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use server::app::App;
use server::config::{Config, unknown_variables};
use server::operate::{self, Command};
use server::serve::serve;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(answer) = operate::about(&arguments) {
        return tell(answer).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(error) => return refuse(&error.to_string()),
    };
    if let Err(error) = start_log(&config) {
        return refuse(&error);
    }
    for name in unknown_variables() {
        tracing::warn!(name, "is set and means nothing to this version");
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&error.to_string()),
    };
    let ended = match Command::parse(&arguments) {
        Some(Command::Serve) => runtime.block_on(run(config)),
        Some(Command::Operate(operation)) => runtime.block_on(operation.carry_out(&config)).and_then(tell),
        None => Err(operate::USAGE.to_owned()),
    };
    // Blocking work that outlives its job must not hold up the exit.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&error),
    }
}

async fn run(config: Config) -> Result<(), String> {
    let listen = config.listen;
    let mut ending = EndSignals::listen().map_err(|error| error.to_string())?;
    let app = tokio::select! {
        app = App::open(config) => app.map_err(|error| error.to_string())?,
        // A start may be cut off anywhere.
        () = ending.wait() => return Ok(()),
    };
    let listener = TcpListener::bind(listen).await;
    let listener = listener.map_err(|error| format!("DBSNAP_LISTEN={listen} cannot be used: {error}"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let stopping = app.stopping.clone();
    tokio::spawn(async move {
        ending.wait().await;
        tracing::info!("stopping: no new jobs, running ones stop at a safe point");
        stopping.cancel();
    });
    // Not the log: whoever starts the server on port 0 reads the port from here.
    tell(format!("listening on http://{address}"))?;
    serve(app, listener).await;
    tracing::info!("stopped");
    Ok(())
}

fn tell(line: String) -> Result<(), String> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(|error| error.to_string())
}

/// The signals that ask for the end: of an operator, of a terminal, and of a terminal that closes.
struct EndSignals([Signal; 3]);

impl EndSignals {
    fn listen() -> std::io::Result<Self> {
        let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
        let [terminate, interrupt, hangup] = kinds.map(signal);
        Ok(Self([terminate?, interrupt?, hangup?]))
    }

    async fn wait(&mut self) {
        let [terminate, interrupt, hangup] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

fn start_log(config: &Config) -> Result<(), String> {
    let unusable = |why: &str| format!("DBSNAP_LOG={:?} cannot be used: {why}", config.log);
    // A word that is no level would be taken for a part of the program, and silence all others.
    let is_level = |word: &str| word.trim().parse::<tracing::level_filters::LevelFilter>().is_ok();
    if let Some(word) = config.log.split(',').find(|part| !part.contains('=') && !is_level(part)) {
        return Err(unusable(&format!("{word:?} is none of off, error, warn, info, debug and trace")));
    }
    let filter = EnvFilter::try_new(&config.log).map_err(|error| unusable(&error.to_string()))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let log = log.with_ansi(std::io::stderr().is_terminal());
    if config.log_json {
        log.json().init()
    } else {
        log.init()
    }
    Ok(())
}

fn refuse(message: &str) -> ExitCode {
    // Before and after the log there is only this; a closed stderr is nobody's to tell.
    let _ = writeln!(std::io::stderr(), "dbsnap: {message}");
    ExitCode::FAILURE
}
