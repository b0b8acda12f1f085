//! The checks of one Redis.

use ballast_redis::{Requirement, ServerAddress, Severity as Weight, TlsMode, log_requirements, snapshot_requirements};

use super::preflight::{address, is_local, read};
use crate::context::Context;
use crate::doctor::{Finding, Severity, fine, stopped, unusable};
use crate::error::Result;
use crate::settings::SourceSettings;

pub(crate) async fn look_at_redis(context: &Context, source: &SourceSettings) -> Result<Vec<Finding>> {
    const CONNECTS: &str = "the account of the configuration can log in";
    let looked = async {
        let address = address(source)?;
        let facts = read(context, &address).await?;
        Ok((address, facts))
    };
    let (address, facts) = match looked.await {
        Ok(found) => found,
        Err(error) => {
            return stopped(error).map(|error| vec![unusable("connects", &source.name, CONNECTS, &error)]);
        }
    };
    let mut findings = vec![fine("connects", &source.name, CONNECTS), transport(source, &address)];
    let points = snapshot_requirements(&facts)
        .into_iter()
        .chain(log_requirements(&facts));
    findings.extend(points.map(|point| finding(source, point)));
    Ok(findings)
}

fn transport(source: &SourceSettings, address: &ServerAddress) -> Finding {
    let encrypted = address.tls != TlsMode::Off && address.socket.is_none();
    let open = !encrypted && !is_local(address);
    Finding {
        check: "transport".to_owned(),
        subject: source.name.clone(),
        severity: if open { Severity::Error } else { Severity::Ok },
        expected: "TLS, or the same machine".to_owned(),
        actual: match (encrypted, open) {
            (true, _) => "TLS",
            (false, false) => "the same machine",
            (false, true) => "plain text over the network",
        }
        .to_owned(),
        remedy: open.then(|| "write rediss:// in the url, with ?ca=PATH for an authority of your own".to_owned()),
    }
}

fn finding(source: &SourceSettings, point: Requirement) -> Finding {
    Finding {
        check: point.name.to_owned(),
        subject: source.name.clone(),
        severity: match (point.ok, point.severity) {
            (true, _) => Severity::Ok,
            (false, Weight::Must) => Severity::Error,
            (false, Weight::Should) => Severity::Warning,
        },
        expected: point.expected,
        actual: point.actual,
        remedy: (!point.ok).then_some(point.remedy),
    }
}
