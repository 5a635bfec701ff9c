//! A network that can be cut: a TCP proxy between one party and its coordinator.
//!
//! While a direction is cut nothing passes and nobody is told, as with a router that is gone. Healed without a reset,
//! what was under way arrives late, as TCP does it; with one, it never does.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Requests are lost.
    Requests,
    /// Replies are lost; what was asked is done.
    Replies,
    /// Nothing passes.
    Both,
}

/// The network at a moment.
#[derive(Clone, Debug)]
struct Wire {
    target: String,
    cut: Option<Cut>,
    /// Cuts and mends so far: the end of a cut leaves a later one alone.
    turn: u64,
    /// Connections of an older epoch are reset.
    epoch: u64,
}

/// The way to one coordinator. It ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    wire: watch::Sender<Wire>,
    runtime: Handle,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A way to `target`, such as `127.0.0.1:7700`.
    pub fn start(runtime: &Handle, target: &str) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        listener.set_nonblocking(true).expect("a listener can be told not to block");
        let address = listener.local_addr().expect("it is bound");
        let (wire, seen) = watch::channel(Wire { target: target.to_owned(), cut: None, turn: 0, epoch: 0 });
        let task = runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("the runtime has IO");
            loop {
                if let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(connect(stream, seen.clone()));
                }
            }
        });
        Self { address, wire, runtime: runtime.clone(), task }
    }

    /// What `--server` takes.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// New connections go to `target`.
    pub fn lead_to(&self, target: &str) {
        self.wire.send_modify(|wire| target.clone_into(&mut wire.target));
    }

    /// Cuts the network for so long. With `reset` the connections do not survive it.
    pub fn cut(&self, cut: Cut, time: Duration, reset: bool) {
        let turn = self.set(Some(cut));
        let wire = self.wire.clone();
        self.runtime.spawn(async move {
            tokio::time::sleep(time).await;
            wire.send_modify(|wire| {
                if wire.turn == turn {
                    wire.cut = None;
                }
                wire.epoch += u64::from(reset);
            });
        });
    }

    /// Ends every cut.
    pub fn heal(&self) {
        self.set(None);
    }

    fn set(&self, cut: Option<Cut>) -> u64 {
        let mut turn = 0;
        self.wire.send_modify(|wire| {
            wire.cut = cut;
            wire.turn += 1;
            turn = wire.turn;
        });
        turn
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.wire.send_modify(|wire| wire.epoch += 1);
    }
}

async fn connect(client: TcpStream, mut wire: watch::Receiver<Wire>) {
    let Ok(target) = wire.wait_for(|wire| wire.cut.is_none()).await.map(|wire| wire.target.clone()) else { return };
    let Ok(server) = TcpStream::connect(&target).await else { return };
    let epoch = wire.borrow().epoch;
    // Small messages wait for nobody.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let requests = async {
        let mut wire = wire.clone();
        pump(&mut from_client, &mut to_server, &mut wire, epoch, Cut::Requests).await;
    };
    let replies = async {
        let mut wire = wire.clone();
        pump(&mut from_server, &mut to_client, &mut wire, epoch, Cut::Replies).await;
    };
    let reset = async {
        let mut wire = wire.clone();
        // An error: the proxy is gone.
        drop(wire.wait_for(|wire| wire.epoch != epoch).await);
    };
    // Whichever side leaves, the other one hears of it: dropping both ends closes them.
    tokio::select! {
        () = requests => {}
        () = replies => {}
        () = reset => {}
    }
}

/// Carries bytes until either end leaves.
async fn pump(
    from: &mut tokio::net::tcp::OwnedReadHalf,
    to: &mut tokio::net::tcp::OwnedWriteHalf,
    wire: &mut watch::Receiver<Wire>,
    epoch: u64,
    direction: Cut,
) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        // The end of a connection does not pass a cut network either.
        let open = |wire: &Wire| wire.epoch != epoch || wire.cut.is_none_or(|cut| cut != Cut::Both && cut != direction);
        if wire.wait_for(open).await.is_err() || read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
