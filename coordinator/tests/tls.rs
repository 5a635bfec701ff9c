//! TLS and client certificates, as clients and probes meet them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fleetune_coordinator::scheduler::EngineOptions;
use fleetune_coordinator::{Coordinator, Server, ServerError, TlsFiles};
use fleetune_proto::v1;
use fleetune_proto::v1::fleet_service_client::FleetServiceClient;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// How long anything here may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// An authority and what it signs, as files.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.crt"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    /// Signs a certificate for `name`, which goes to `file.crt` and `file.key`.
    fn sign(&self, file: &str, name: &str, usage: ExtendedKeyUsagePurpose) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{file}.crt")), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{file}.key")), key.serialize_pem()).unwrap();
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn files(&self, client_ca: Option<PathBuf>) -> TlsFiles {
        TlsFiles { cert: self.path("server.crt"), key: self.path("server.key"), client_ca }
    }

    fn trusting(&self) -> ClientTlsConfig {
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(&self.path("ca.crt"))))
    }

    fn identity(&self, file: &str) -> Identity {
        Identity::from_pem(read(&self.path(&format!("{file}.crt"))), read(&self.path(&format!("{file}.key"))))
    }
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

/// A coordinator that speaks TLS; it stops with the test.
struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Running {
    async fn start(files: TlsFiles) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("fleetune.db").display());
        let stop = CancellationToken::new();
        let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap().with_tls(files).unwrap();
        let address = server.address();
        let coordinator = Coordinator::start(&url, EngineOptions::default(), stop.clone()).await.unwrap();
        tokio::spawn(async move { server.serve(&coordinator).await });
        Self { address, stop, _folder: folder }
    }

    /// A call over a connection of its own.
    async fn call(&self, tls: ClientTlsConfig) -> Result<(), String> {
        let endpoint = Endpoint::from_shared(format!("https://localhost:{}", self.address.port())).unwrap();
        let channel = endpoint.tls_config(tls).unwrap().connect().await.map_err(|error| format!("{error:?}"))?;
        call(channel).await
    }
}

async fn call(channel: Channel) -> Result<(), String> {
    let answer = FleetServiceClient::new(channel).fleet_status(v1::FleetStatusRequest {}).await;
    answer.map(|_| ()).map_err(|status| format!("{status:?}"))
}

#[tokio::test]
async fn a_client_that_trusts_the_authority_is_served_and_no_other() {
    let (ours, other) = (Authority::new("ours"), Authority::new("another"));
    ours.sign("server", "localhost", ExtendedKeyUsagePurpose::ServerAuth);
    let running = Running::start(ours.files(None)).await;
    running.call(ours.trusting()).await.unwrap();
    let refused = running.call(other.trusting()).await.unwrap_err();
    assert!(refused.contains("UnknownIssuer"), "{refused}");
    let refused = running.call(ours.trusting().domain_name("elsewhere")).await.unwrap_err();
    assert!(refused.contains("NotValidForName"), "{refused}");
    let plain = Endpoint::from_shared(format!("http://{}", running.address)).unwrap().connect().await;
    let refused = match plain {
        Ok(channel) => call(channel).await.map_err(drop),
        Err(_) => Err(()),
    };
    assert!(refused.is_err(), "served in the clear");
}

#[tokio::test]
async fn with_client_authorities_a_client_needs_their_certificate() {
    let (ours, other) = (Authority::new("ours"), Authority::new("another"));
    ours.sign("server", "localhost", ExtendedKeyUsagePurpose::ServerAuth);
    ours.sign("client", "a client", ExtendedKeyUsagePurpose::ClientAuth);
    other.sign("client", "a client", ExtendedKeyUsagePurpose::ClientAuth);
    let running = Running::start(ours.files(Some(ours.path("ca.crt")))).await;
    running.call(ours.trusting().identity(ours.identity("client"))).await.unwrap();
    running.call(ours.trusting()).await.unwrap_err();
    running.call(ours.trusting().identity(other.identity("client"))).await.unwrap_err();
}

#[tokio::test]
async fn probes_that_know_only_http_1_are_served_over_tls() {
    let ours = Authority::new("ours");
    ours.sign("server", "localhost", ExtendedKeyUsagePurpose::ServerAuth);
    let running = Running::start(ours.files(None)).await;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ours.path("ca.crt")).unwrap()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let exchange = async {
        let stream = TcpStream::connect(running.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        // A server may end without TLS's own goodbye.
        drop(stream.read_to_end(&mut answer).await);
        String::from_utf8_lossy(&answer).into_owned()
    };
    let answer = tokio::time::timeout(DEADLINE, exchange).await.expect("an answer in time");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok\n"), "{answer}");
}

#[tokio::test]
async fn a_client_that_says_nothing_holds_up_no_other() {
    let ours = Authority::new("ours");
    ours.sign("server", "localhost", ExtendedKeyUsagePurpose::ServerAuth);
    let running = Running::start(ours.files(None)).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(running.address).await.unwrap());
    }
    tokio::time::timeout(DEADLINE, running.call(ours.trusting())).await.expect("an answer in time").unwrap();
}

#[tokio::test]
async fn files_that_make_no_certificate_are_named() {
    let ours = Authority::new("ours");
    ours.sign("server", "localhost", ExtendedKeyUsagePurpose::ServerAuth);
    ours.sign("other", "localhost", ExtendedKeyUsagePurpose::ServerAuth);
    std::fs::write(ours.path("empty"), "").unwrap();
    let good = ours.files(None);
    let bad = [
        (TlsFiles { cert: ours.path("missing"), ..good.clone() }, "missing"),
        (TlsFiles { cert: ours.path("empty"), ..good.clone() }, "empty"),
        (TlsFiles { key: ours.path("server.crt"), ..good.clone() }, "server.crt"),
        (TlsFiles { key: ours.path("other.key"), ..good.clone() }, "other.key"),
        (TlsFiles { client_ca: Some(ours.path("empty")), ..good }, "empty"),
    ];
    for (files, named) in bad {
        let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let refused = server.with_tls(files).unwrap_err();
        assert!(matches!(refused, ServerError::Tls(_)), "{refused}");
        assert!(refused.to_string().contains(named), "{refused}");
    }
}
