//! Keys, certificates and sealed secrets against the `openssl` program, as the independent judge.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use networkmesh_certs::{
    DEFAULT_LEAF_LIFETIME, DomainAuthority, DomainKey, KeyError, LeafRequest, LeafUsage, OpenError,
    PublicKey, certificate_signing_request,
};
use tempfile::TempDir;

const DAY: Duration = Duration::from_hours(24);

/// A folder in which openssl runs.
struct Openssl(TempDir);

impl Openssl {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn try_run(&self, arguments: &str) -> Output {
        Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(&self.0)
            .output()
            .expect("these tests need the openssl program: install it (Debian: `apt-get install openssl`)")
    }

    /// Runs openssl and returns what it printed.
    fn run(&self, arguments: &str) -> Vec<u8> {
        let output = self.try_run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments}: {errors}");
        output.stdout
    }

    fn run_for_text(&self, arguments: &str) -> String {
        String::from_utf8(self.run(arguments)).expect("openssl prints text")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).expect("the temporary folder is writable");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("openssl wrote the file")
    }

    /// Whether openssl accepts the leaf in `leaf.pem` under the authority in `ca.pem`.
    fn accepts(&self, options: &str) -> bool {
        self.try_run(&format!("verify -x509_strict {options} -CAfile ca.pem leaf.pem")).status.success()
    }
}

fn leaf_request(usage: LeafUsage) -> LeafRequest {
    LeafRequest {
        common_name: "alice_ENVOY_EXTERNAL".into(),
        subject_alt_names: vec!["gw.example.com".into(), "*.alice.svc".into(), "10.0.0.1".into()],
        usage,
        lifetime: DEFAULT_LEAF_LIFETIME,
    }
}

#[test]
fn keys_of_openssl_are_read_and_written_byte_for_byte() {
    let openssl = Openssl::new();
    openssl.run("genrsa -traditional -out pkcs1.pem 2048");
    openssl.run("pkcs8 -topk8 -nocrypt -in pkcs1.pem -out pkcs8.pem");
    let pkcs1 = openssl.read("pkcs1.pem");
    let pkcs8 = openssl.read("pkcs8.pem");
    assert!(pkcs1.contains("BEGIN RSA PRIVATE KEY") && pkcs8.contains("BEGIN PRIVATE KEY"));
    let crlf = pkcs1.replace('\n', "\r\n");
    let commented = format!("subject=CN = alice\n\n{pkcs8}");

    for pem in [&pkcs1, &pkcs8, &crlf, &commented] {
        let key = DomainKey::from_pem(pem).expect("the key is read");
        assert_eq!(*key.to_pkcs1_pem(), pkcs1);
        let key = DomainKey::from_domain_key_data(&STANDARD.encode(pem)).expect("the key data is read");
        assert_eq!(*key.to_domain_key_data(), STANDARD.encode(&pkcs1));
    }
}

#[test]
fn public_keys_are_written_and_hashed_as_openssl_does() {
    let openssl = Openssl::new();
    let key = DomainKey::generate().expect("a key");
    openssl.write("key.pem", key.to_pkcs1_pem().as_bytes());
    let pkcs1 = openssl.run_for_text("rsa -in key.pem -RSAPublicKey_out");
    let pkix = openssl.run_for_text("rsa -in key.pem -pubout");
    assert_eq!(key.public_key().to_pkcs1_pem(), pkcs1);
    for pem in [&pkcs1, &pkix] {
        let read = PublicKey::from_base64_pem(&STANDARD.encode(pem)).expect("the public key is read");
        assert_eq!(&read, key.public_key());
    }

    openssl.write("public.pem", &pkcs1);
    let hash = openssl.run("dgst -sha256 -binary public.pem");
    assert_eq!(key.public_key().pubhash(), STANDARD.encode(hash));

    openssl.run("rsa -in key.pem -RSAPublicKey_out -outform DER -out public.der");
    let hash = STANDARD.encode(openssl.run("dgst -sha256 -binary public.der"));
    assert_eq!(key.public_key().fingerprint().to_string(), format!("SHA256:{}", hash.trim_end_matches('=')));
}

#[test]
fn each_unusable_key_is_refused_with_its_remedy() {
    let openssl = Openssl::new();
    openssl.run("genrsa -traditional -out short.pem 1024");
    openssl.run("genrsa -traditional -out good.pem 2048");
    openssl.run("rsa -in good.pem -traditional -aes128 -passout pass:secret -out locked1.pem");
    openssl.run("pkcs8 -topk8 -in good.pem -passout pass:secret -out locked8.pem");
    openssl.run("ecparam -name prime256v1 -genkey -out ec1.pem");
    openssl.run("pkcs8 -topk8 -nocrypt -in ec1.pem -out ec8.pem");
    openssl.run("req -x509 -key good.pem -subj /CN=alice -out certificate.pem");

    let refusal = |file| DomainKey::from_pem(&openssl.read(file)).expect_err(file).to_string();
    assert_eq!(
        refusal("short.pem"),
        "the key has 1024 bits; domain keys need 2048 or more: make one with `networkmesh keygen`"
    );
    for locked in ["locked1.pem", "locked8.pem"] {
        assert_eq!(
            refusal(locked),
            "the key is encrypted: remove its passphrase with `openssl rsa -in FILE -out PLAIN`"
        );
    }
    assert_eq!(
        refusal("certificate.pem"),
        "this is a PEM `CERTIFICATE`: give a PEM RSA private key (`RSA PRIVATE KEY` or `PRIVATE KEY`) instead"
    );
    assert_eq!(refusal("ec8.pem"), KeyError::NotRsa.to_string());
    assert!(refusal("ec1.pem").contains("`EC PARAMETERS`"));

    let good = openssl.read("good.pem");
    let error = |pem: &str| DomainKey::from_pem(pem).expect_err("refused");
    assert!(matches!(error(""), KeyError::NoPem { .. }));
    assert_eq!(error(&good[..good.len() / 2]), KeyError::BrokenPem);
    assert_eq!(error(&good.replacen("MI", "MJ", 1)), KeyError::Malformed);
    assert_eq!(DomainKey::from_domain_key_data(&good).expect_err("refused"), KeyError::NotBase64);

    let short = openssl.run_for_text("rsa -in short.pem -RSAPublicKey_out");
    let error = |pem: &str| PublicKey::from_base64_pem(&STANDARD.encode(pem)).expect_err("refused");
    assert_eq!(error(&short), KeyError::TooSmall { bits: 1024 });
    assert!(matches!(error(&good), KeyError::WrongBlock { found, .. } if found == "RSA PRIVATE KEY"));
    assert_eq!(error(&openssl.run_for_text("pkey -in ec8.pem -pubout")), KeyError::NotRsa);
}

#[test]
fn a_leaf_verifies_against_a_domain_certificate_made_a_second_time() {
    let openssl = Openssl::new();
    let key = DomainKey::generate().expect("a key");
    let now = SystemTime::now();
    let first = DomainAuthority::new("alice", &key, now).expect("an authority");
    let second = DomainAuthority::new("alice", &key, now - DAY * 365).expect("an authority");
    assert_ne!(first.certificate_pem(), second.certificate_pem());

    openssl.write("ca.pem", second.certificate_pem());
    openssl.write("leaf.pem", first.issue(&leaf_request(LeafUsage::Server), now).expect("a leaf").chain_pem);
    assert!(openssl.accepts("-purpose sslserver -verify_hostname gw.example.com"));
    assert!(openssl.accepts("-purpose sslserver -verify_hostname web.alice.svc"));
    assert!(openssl.accepts("-purpose sslserver -verify_ip 10.0.0.1"));
    assert!(!openssl.accepts("-purpose sslserver -verify_hostname gw.example.org"));
    assert!(!openssl.accepts("-purpose sslclient"));

    openssl.write("leaf.pem", first.issue(&leaf_request(LeafUsage::Client), now).expect("a leaf").chain_pem);
    assert!(openssl.accepts("-purpose sslclient"));
    assert!(!openssl.accepts("-purpose sslserver"));

    let stranger = DomainAuthority::new("alice", &DomainKey::generate().expect("a key"), now);
    openssl.write("ca.pem", stranger.expect("an authority").certificate_pem());
    assert!(!openssl.accepts("-purpose sslclient"));
}

#[test]
fn a_leaf_verifies_against_a_domain_certificate_that_openssl_made_of_the_same_key() {
    let openssl = Openssl::new();
    let key = DomainKey::generate().expect("a key");
    openssl.write("key.pem", key.to_pkcs1_pem().as_bytes());
    openssl.run("req -x509 -key key.pem -subj /CN=alice -addext keyUsage=critical,keyCertSign -out ca.pem");

    let now = SystemTime::now();
    let authority = DomainAuthority::new("alice", &key, now).expect("an authority");
    let leaf = authority.issue(&leaf_request(LeafUsage::Server), now).expect("a leaf");
    openssl.write("leaf.pem", &leaf.chain_pem);
    assert!(openssl.accepts("-purpose sslserver"));
}

#[test]
fn the_longest_names_verify() {
    let openssl = Openssl::new();
    let key = DomainKey::generate().expect("a key");
    let now = SystemTime::now();
    let domain = "a".repeat(63);
    let authority = DomainAuthority::new(&domain, &key, now).expect("an authority");
    let request =
        LeafRequest { common_name: format!("{domain}_ENVOY_EXTERNAL"), ..leaf_request(LeafUsage::Server) };
    openssl.write("ca.pem", authority.certificate_pem());
    openssl.write("leaf.pem", authority.issue(&request, now).expect("a leaf").chain_pem);
    assert!(openssl.accepts("-purpose sslserver"));
}

#[test]
fn the_domain_certificate_says_what_partners_expect() {
    let openssl = Openssl::new();
    let key = DomainKey::generate().expect("a key");
    let now = SystemTime::UNIX_EPOCH + DAY * 20_000;
    let authority = DomainAuthority::new("alice", &key, now).expect("an authority");
    openssl.write("ca.pem", authority.certificate_pem());

    let shown = openssl.run_for_text("x509 -in ca.pem -noout -text -nameopt RFC2253");
    for said in [
        "Subject: CN=alice\n",
        "Issuer: CN=alice\n",
        "Not Before: Oct  3 00:00:00 2024 GMT",
        "Not After : Oct  4 00:00:00 2034 GMT",
        "CA:TRUE",
        "Digital Signature, Certificate Sign\n",
        "TLS Web Client Authentication, TLS Web Server Authentication\n",
        "Signature Algorithm: sha256WithRSAEncryption",
    ] {
        assert!(shown.contains(said), "{said:?} is not in:\n{shown}");
    }
}

#[test]
fn the_key_of_a_leaf_belongs_to_its_certificate() {
    let openssl = Openssl::new();
    let now = SystemTime::now();
    let authority = DomainAuthority::new("alice", &DomainKey::generate().expect("a key"), now);
    let leaf = authority.expect("an authority").issue(&leaf_request(LeafUsage::Server), now).expect("a leaf");
    openssl.write("leaf.pem", &leaf.chain_pem);
    openssl.write("key.pem", leaf.key_pem.as_bytes());
    assert_eq!(openssl.run("x509 -in leaf.pem -noout -pubkey"), openssl.run("pkey -in key.pem -pubout"));
}

#[test]
fn signing_requests_verify_and_carry_the_deploy_token_as_raw_bytes() {
    let openssl = Openssl::new();
    let key = DomainKey::generate().expect("a key");
    let request = certificate_signing_request("alice", &key, Some("deploy-token-1")).expect("a request");
    openssl.write("request.pem", request);
    let shown = openssl.run_for_text("req -in request.pem -verify -noout -text -nameopt RFC2253");
    assert!(shown.contains("Subject: CN=alice\n"), "{shown}");

    let structure = openssl.run_for_text("asn1parse -in request.pem");
    let after_oid = structure.split("OBJECT            :1.2.3.4\n").nth(1).expect("the extension");
    let value = after_oid.lines().next().expect("its value");
    assert!(value.ends_with("l=  14 prim: OCTET STRING      :deploy-token-1"), "{value}");

    openssl.write("bare.pem", certificate_signing_request("alice", &key, None).expect("a request"));
    openssl.run("req -in bare.pem -verify -noout");
    assert!(!openssl.run_for_text("asn1parse -in bare.pem").contains("1.2.3.4"));
}

#[test]
fn openssl_opens_what_is_sealed() {
    let openssl = Openssl::new();
    let key = DomainKey::generate().expect("a key");
    let sealed = key.public_key().seal(&[7; 16]).expect("sealed");
    openssl.write("key.pem", key.to_pkcs1_pem().as_bytes());
    openssl.write("sealed", STANDARD.decode(sealed).expect("base64"));
    let plain = openssl.run("pkeyutl -decrypt -inkey key.pem -in sealed -pkeyopt rsa_padding_mode:pkcs1");
    assert_eq!(plain, [b"kuscia".as_slice(), &[7; 16]].concat());
}

#[test]
fn what_openssl_sealed_opens_only_with_the_right_prefix_and_length() {
    let openssl = Openssl::new();
    let key = DomainKey::generate().expect("a key");
    openssl.write("key.pem", key.to_pkcs1_pem().as_bytes());
    let seal = |plain: &[u8], padding: &str| {
        openssl.write("plain", plain);
        let padding = format!("-pkeyopt rsa_padding_mode:{padding}");
        STANDARD.encode(openssl.run(&format!("pkeyutl -encrypt -inkey key.pem -in plain {padding}")))
    };

    let sealed = seal(b"kuscia0123456789abcdef", "pkcs1");
    assert_eq!(**key.open(&sealed, 16).expect("opened"), *b"0123456789abcdef");
    for (what, sealed) in [
        ("wrong prefix", seal(b"kuscib0123456789abcdef", "pkcs1")),
        ("no prefix", seal(b"0123456789abcdef", "pkcs1")),
        ("too short", seal(b"kuscia0123456789abcde", "pkcs1")),
        ("too long", seal(b"kuscia0123456789abcdefg", "pkcs1")),
        ("less than the prefix", seal(b"kus", "pkcs1")),
        ("other padding", seal(b"kuscia0123456789abcdef", "oaep")),
    ] {
        assert_eq!(key.open(&sealed, 16), Err(OpenError::Refused), "{what}");
    }
}

const PSS: &str = "-sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_mgf1_md:sha256";

#[test]
fn openssl_verifies_what_is_signed() {
    let openssl = Openssl::new();
    for bits in [2048, 3072] {
        openssl.run(&format!("genrsa -traditional -out key.pem {bits}"));
        openssl.run("rsa -in key.pem -pubout -out public.pem");
        let key = DomainKey::from_pem(&openssl.read("key.pem")).expect("the key is read");
        openssl.write("signature", key.sign(b"a message").expect("signed"));
        let verifies = |message: &str| {
            openssl.write("message", message);
            let options = format!("{PSS} -sigopt rsa_pss_saltlen:32 -verify public.pem -signature signature");
            openssl.try_run(&format!("dgst {options} message")).status.success()
        };
        assert!(verifies("a message"), "{bits} bits");
        assert!(!verifies("another message"), "{bits} bits");
    }
}

#[test]
fn what_openssl_signed_verifies_only_with_the_right_padding_and_salt() {
    let openssl = Openssl::new();
    openssl.run("genrsa -traditional -out key.pem 2048");
    let key = DomainKey::from_pem(&openssl.read("key.pem")).expect("the key is read");
    openssl.write("message", "a message");
    let verifies = |options: &str| {
        let signature = openssl.run(&format!("dgst {options} -sign key.pem -binary message"));
        key.public_key().verify(b"a message", &signature)
    };
    assert!(verifies(&format!("{PSS} -sigopt rsa_pss_saltlen:32")));
    assert!(!verifies(&format!("{PSS} -sigopt rsa_pss_saltlen:0")), "without salt");
    assert!(!verifies(&format!("{PSS} -sigopt rsa_pss_saltlen:222")), "the longest salt");
    assert!(!verifies("-sha256"), "the padding of PKCS#1 v1.5");
    assert!(!verifies("-sha512 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:64"), "another hash");
}
