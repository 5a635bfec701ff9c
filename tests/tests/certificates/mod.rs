//! What a server that keeps others out needs: certificates, tokens.

use fleetune_tests::Place;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};

/// Creates a token over the storage and gives its file.
pub fn token(place: &Place, storage: &str, name: &str, role: &str) -> String {
    let file = place.path(&format!("{name}.token")).display().to_string();
    place.run(&["token", "create", name, "--role", role, "--storage", storage, "--output", &file]).ok();
    file
}

/// Writes an authority, a server's certificate for `localhost`, a client's, and an authority that signed neither.
pub fn certificates(place: &Place) {
    let authority = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let issuer = authority("ours");
    place.write("ca.crt", &issuer.pem());
    place.write("other.crt", &authority("another").pem());
    let pairs = [("server", ExtendedKeyUsagePurpose::ServerAuth), ("client", ExtendedKeyUsagePurpose::ClientAuth)];
    for (name, usage) in pairs {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        place.write(&format!("{name}.crt"), &params.signed_by(&key, &issuer).unwrap().pem());
        place.write(&format!("{name}.key"), &key.serialize_pem());
    }
}
