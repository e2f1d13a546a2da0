//! `phantomdb cert`: a certificate authority for a cluster, and certificates of it.
//!
//! | File | Who needs it |
//! | --- | --- |
//! | `ca.crt` | every node, and clients that verify the server |
//! | `ca.key` | whoever makes certificates; no node |
//! | `node.crt`, `node.key` | one node: its peers and its SQL clients see them |
//! | `client.ROLE.crt`, `client.ROLE.key` | a SQL client |
//!
//! Keys are ECDSA on P-256 in PKCS #8 (RFC 5958). Files of keys can be read by their owner only.

use crate::cli::{CertCommand, CreateCaArgs, CreateClientArgs, CreateNodeArgs};
use crate::rpc::tls::{CA_CERTIFICATE, CA_KEY, NODE_CERTIFICATE, NODE_KEY, NODE_NAME, verify};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio_rustls::rustls::pki_types::CertificateDer;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long an authority is good for: a new one means new certificates for all.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long nodes and clients are known, if the command does not say.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(5 * 365 * 24 * 3600);

/// The subject of every authority. Their keys tell them apart.
const AUTHORITY_NAME: &str = "PhantomDB CA";

const KEY_MODE: u32 = 0o600;
const CERTIFICATE_MODE: u32 = 0o644;
const FOLDER_MODE: u32 = 0o700;

/// Runs a command, and prints what it did and what comes next.
pub fn run(command: &CertCommand) -> Result<ExitCode, String> {
    let text = match command {
        CertCommand::CreateCa(args) => create_ca(args),
        CertCommand::CreateNode(args) => create_node(args),
        CertCommand::CreateClient(args) => create_client(args),
    }?;
    println!("{text}");
    Ok(ExitCode::SUCCESS)
}

fn create_ca(args: &CreateCaArgs) -> Result<String, String> {
    let folder = &args.certs_dir;
    let (certificate_file, key_file) = (folder.join(CA_CERTIFICATE), folder.join(CA_KEY));
    for file in [&certificate_file, &key_file] {
        if file.exists() {
            let file = file.display();
            return Err(format!(
                "{file} is there already, and an authority is never replaced: all certificates of it would be void.\n\
                 Hint: give another --certs-dir for another cluster."
            ));
        }
    }
    let key = new_key()?;
    let certificate = authority()
        .self_signed(&key)
        .map_err(|error| format!("cannot make a certificate: {error}"))?;
    make_folder(folder)?;
    write(&key_file, KEY_MODE, &key.serialize_pem(), false)?;
    write(
        &certificate_file,
        CERTIFICATE_MODE,
        &certificate.pem(),
        false,
    )?;
    let (certs, key) = (folder.display(), key_file.display());
    let certificate = certificate_file.display();
    Ok(format!(
        "wrote {certificate}: the cluster's authority, for every node and client\n\
         wrote {key}: its key; whoever has it can make nodes, so keep it off them\n\
         \n\
         Next, for each node, with the names and addresses that SQL clients use for it:\n  \
         phantomdb cert create-node --certs-dir {certs} --host db1.example.com --out certs-db1"
    ))
}

fn create_node(args: &CreateNodeArgs) -> Result<String, String> {
    let authority = Authority::load(&args.certs_dir)?;
    let out = args.out.as_ref().unwrap_or(&args.certs_dir);
    let mut names = vec![NODE_NAME.to_string()];
    names.extend(args.host.iter().cloned());
    let mut params = CertificateParams::new(names)
        .map_err(|error| format!("--host {}: {error}", args.host.join(" --host ")))?;
    params.distinguished_name = subject("node");
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let lifetime = args.valid_for.map_or(DEFAULT_LIFETIME, |period| period.0);
    let files = [out.join(NODE_CERTIFICATE), out.join(NODE_KEY)];
    authority.issue(params, lifetime, &files, args.overwrite)?;
    if out != &args.certs_dir {
        write(
            &out.join(CA_CERTIFICATE),
            CERTIFICATE_MODE,
            &authority.pem,
            true,
        )?;
    }
    let [certificate, key] = files.each_ref().map(|file| file.display());
    let out = out.display();
    Ok(format!(
        "wrote {certificate}: a node's certificate, also for {}\n\
         wrote {key}: its key\n\
         \n\
         Next, on that node, with {CA_CERTIFICATE}, {NODE_CERTIFICATE} and {NODE_KEY} in one folder:\n  \
         phantomdb start --certs-dir {out}",
        args.host.join(", ")
    ))
}

fn create_client(args: &CreateClientArgs) -> Result<String, String> {
    let role = &args.role;
    if role.is_empty() || role.contains(['/', '\\', '\0']) {
        return Err(format!("`{role}` cannot be part of a file's name"));
    }
    let authority = Authority::load(&args.certs_dir)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(role);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let lifetime = args.valid_for.map_or(DEFAULT_LIFETIME, |period| period.0);
    let folder = &args.certs_dir;
    let files = ["crt", "key"].map(|kind| folder.join(format!("client.{role}.{kind}")));
    authority.issue(params, lifetime, &files, args.overwrite)?;
    let [certificate, key] = files.each_ref().map(|file| file.display());
    let ca = folder.join(CA_CERTIFICATE);
    let ca = ca.display();
    Ok(format!(
        "wrote {certificate}: a certificate of the SQL role {role}\n\
         wrote {key}: its key\n\
         \n\
         Next, for the client (the role's password is asked for as before):\n  \
         psql 'host=db1.example.com port=5450 user={role} sslmode=verify-full sslrootcert={ca} sslcert={certificate} sslkey={key}'"
    ))
}

/// A CA with its key.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    certificate: CertificateDer<'static>,
}

impl Authority {
    fn load(folder: &Path) -> Result<Authority, String> {
        let read = |name: &str| {
            let file = folder.join(name);
            fs::read_to_string(&file).map_err(|error| {
                let (file, folder) = (file.display(), folder.display());
                format!(
                    "cannot read {file}: {error}\n\
                     Hint: `phantomdb cert create-ca --certs-dir {folder}` makes an authority."
                )
            })
        };
        let (pem, key) = (read(CA_CERTIFICATE)?, read(CA_KEY)?);
        let key = KeyPair::from_pem(&key)
            .map_err(|error| format!("{}: {error}", folder.join(CA_KEY).display()))?;
        let certificate = rustls_pemfile::certs(&mut pem.as_bytes())
            .next()
            .and_then(Result::ok)
            .ok_or_else(|| {
                let file = folder.join(CA_CERTIFICATE);
                format!("{} holds no certificate in PEM form", file.display())
            })?;
        Ok(Authority {
            issuer: Issuer::new(authority(), key),
            pem,
            certificate,
        })
    }

    /// Makes a key and a certificate, and writes them to `[certificate, key]`.
    fn issue(
        &self,
        mut params: CertificateParams,
        lifetime: Duration,
        files: &[PathBuf; 2],
        overwrite: bool,
    ) -> Result<(), String> {
        let key = new_key()?;
        valid_for(&mut params, lifetime);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let certificate = self.sign(&params, &key)?;
        let [certificate_file, key_file] = files;
        if let Some(folder) = certificate_file.parent() {
            make_folder(folder)?;
        }
        if !overwrite && let Some(file) = files.iter().find(|file| file.exists()) {
            let file = file.display();
            return Err(format!("{file} is there already; --overwrite replaces it"));
        }
        write(key_file, KEY_MODE, &key.serialize_pem(), overwrite)?;
        write(
            certificate_file,
            CERTIFICATE_MODE,
            &certificate.pem(),
            overwrite,
        )
    }

    fn sign(&self, params: &CertificateParams, key: &KeyPair) -> Result<Certificate, String> {
        let certificate = params
            .signed_by(key, &self.issuer)
            .map_err(|error| format!("cannot make a certificate: {error}"))?;
        // The key may be another authority's, or the authority may not be one of ours.
        verify(&self.certificate, certificate.der()).map_err(|error| {
            format!(
                "{CA_CERTIFICATE} and {CA_KEY} are not an authority made by `phantomdb cert create-ca`: {error}"
            )
        })?;
        Ok(certificate)
    }
}

/// The parameters of an authority's own certificate.
fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(AUTHORITY_NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for(&mut params, AUTHORITY_LIFETIME);
    params
}

fn subject(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "PhantomDB");
    name.push(DnType::CommonName, common_name);
    name
}

/// From yesterday on, for machines whose clocks are behind.
fn valid_for(params: &mut CertificateParams, lifetime: Duration) {
    let epoch = date_time_ymd(1970, 1, 1);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default();
    params.not_before = epoch + now.saturating_sub(DAY);
    params.not_after = epoch + now.saturating_add(lifetime);
}

fn new_key() -> Result<KeyPair, String> {
    KeyPair::generate().map_err(|error| format!("cannot make a key: {error}"))
}

fn make_folder(folder: &Path) -> Result<(), String> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    let made = fs::create_dir_all(folder)
        .and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(FOLDER_MODE)));
    made.map_err(|error| format!("cannot make the folder {}: {error}", folder.display()))
}

/// Writes a new file, or replaces one as a whole, so that nobody reads half of it.
fn write(file: &Path, mode: u32, text: &str, replace: bool) -> Result<(), String> {
    let target = if replace {
        let mut name = file.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".new-{}", std::process::id()));
        file.with_file_name(name)
    } else {
        file.to_path_buf()
    };
    let written = || -> std::io::Result<()> {
        let mut open = OpenOptions::new();
        let mut opened = open.write(true).create_new(true).mode(mode).open(&target)?;
        opened.write_all(text.as_bytes())?;
        opened.sync_all()?;
        if replace {
            fs::rename(&target, file)?;
        }
        Ok(())
    };
    written().map_err(|error| format!("cannot write {}: {error}", target.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::RpcTls;

    fn in_folder(folder: &Path) -> [String; 2] {
        ["--certs-dir".to_string(), folder.display().to_string()]
    }

    /// What `phantomdb cert …` does.
    fn cert(folder: &Path, words: &[&str]) -> Result<String, String> {
        use clap::Parser;
        let line = ["phantomdb", "cert"].iter().chain(words);
        let line = line.map(|word| word.to_string()).chain(in_folder(folder));
        match crate::cli::Cli::try_parse_from(line)
            .expect("a command")
            .command
        {
            crate::cli::Command::Cert(CertCommand::CreateCa(args)) => create_ca(&args),
            crate::cli::Command::Cert(CertCommand::CreateNode(args)) => create_node(&args),
            crate::cli::Command::Cert(CertCommand::CreateClient(args)) => create_client(&args),
            other => panic!("{other:?}"),
        }
    }

    fn mode(file: &Path) -> u32 {
        fs::metadata(file).expect("a file").permissions().mode() & 0o777
    }

    #[test]
    fn from_nothing_to_a_node_that_can_start() {
        let folder = tempfile::tempdir().expect("a folder");
        let certs = folder.path().join("certs");
        let early = cert(&certs, &["create-node", "--host", "db1"]).expect_err("no authority");
        assert!(early.contains("create-ca"), "{early}");

        let said = cert(&certs, &["create-ca"]).expect("an authority");
        assert!(said.contains("create-node"), "{said}");
        assert_eq!(mode(&certs.join(CA_KEY)), 0o600);
        assert_eq!(mode(&certs.join(CA_CERTIFICATE)), 0o644);
        let authority = fs::read(certs.join(CA_KEY)).expect("a key");
        let again = cert(&certs, &["create-ca"]).expect_err("there is one");
        assert!(again.contains("never replaced"), "{again}");
        assert_eq!(fs::read(certs.join(CA_KEY)).expect("a key"), authority);

        let out = folder.path().join("db1");
        let out_text = out.display().to_string();
        let words = [
            "create-node",
            "--host",
            "db1.example.com",
            "--host",
            "10.0.0.1",
        ];
        let words = [&words[..], &["--out", &out_text]].concat();
        let said = cert(&certs, &words).expect("a node");
        assert!(said.contains("db1.example.com, 10.0.0.1"), "{said}");
        assert_eq!(mode(&out.join(NODE_KEY)), 0o600);
        assert!(!out.join(CA_KEY).exists(), "it stays where it is");
        RpcTls::load(&out).expect("a node's certificates");

        let twice = cert(&certs, &words).expect_err("there is one");
        assert!(twice.contains("--overwrite"), "{twice}");
        let key = fs::read(out.join(NODE_KEY)).expect("a key");
        cert(&certs, &[&words[..], &["--overwrite"]].concat()).expect("a new one");
        assert_ne!(fs::read(out.join(NODE_KEY)).expect("a key"), key);
        RpcTls::load(&out).expect("a node's certificates");
    }

    #[test]
    fn a_client_is_no_node() {
        let folder = tempfile::tempdir().expect("a folder");
        let certs = folder.path();
        cert(certs, &["create-ca"]).expect("an authority");
        let said = cert(certs, &["create-client", "ann"]).expect("a client");
        assert!(said.contains("user=ann"), "{said}");
        assert_eq!(mode(&certs.join("client.ann.key")), 0o600);
        cert(certs, &["create-client", "../ann"]).expect_err("no file's name");
        fs::copy(certs.join("client.ann.crt"), certs.join(NODE_CERTIFICATE)).expect("a copy");
        fs::copy(certs.join("client.ann.key"), certs.join(NODE_KEY)).expect("a copy");
        let refused = RpcTls::load(certs).err().expect("a client's certificate");
        assert!(
            refused.to_string().contains("no node's certificate"),
            "{refused}"
        );
    }

    #[test]
    fn the_key_of_another_authority_signs_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
        cert(&ours, &["create-ca"]).expect("an authority");
        cert(&theirs, &["create-ca"]).expect("another one");
        fs::copy(theirs.join(CA_KEY), ours.join(CA_KEY)).expect("a copy");
        let refused = cert(&ours, &["create-node", "--host", "db1"]).expect_err("no authority");
        assert!(refused.contains("are not an authority"), "{refused}");
        assert!(!ours.join(NODE_KEY).exists());
    }
}
