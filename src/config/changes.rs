//! What differs between two configurations, as dotted keys: what a reload has to tell and to act on.

use super::Config;
use std::collections::BTreeSet;

/// See [`Config::changes`].
pub(super) fn changes(old: &Config, new: &Config) -> Vec<String> {
    let sections = |config: &Config| toml::Table::try_from(config).unwrap_or_default();
    let (before, after) = (sections(old), sections(new));
    let mut changed = BTreeSet::new();
    for section in keys(&before, &after) {
        match (before.get(section), after.get(section)) {
            (Some(toml::Value::Table(before)), Some(toml::Value::Table(after))) => {
                let differs = |key: &&String| before.get(*key) != after.get(*key);
                changed.extend(keys(before, after).into_iter().filter(differs).map(|key| format!("{section}.{key}")));
            }
            // A list of tables is one thing: its elements have no names by which to pair them.
            (before, after) if before != after => {
                changed.insert(section.clone());
            }
            _ => {}
        }
    }
    // Masked in the tables above.
    if old.cluster.secret != new.cluster.secret {
        changed.insert("cluster.secret".to_owned());
    }
    if old.cluster.previous_secrets != new.cluster.previous_secrets {
        changed.insert("cluster.previous_secrets".to_owned());
    }
    if old.client.host != new.client.host {
        changed.insert("client.host".to_owned());
    }
    changed.into_iter().collect()
}

fn keys<'a>(a: &'a toml::Table, b: &'a toml::Table) -> BTreeSet<&'a String> {
    a.keys().chain(b.keys()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn changed(change: impl FnOnce(&mut Config)) -> Vec<String> {
        let mut config = Config::default();
        change(&mut config);
        changes(&Config::default(), &config)
    }

    #[test]
    fn each_changed_key_is_named_and_no_other() {
        assert_eq!(changed(|_| {}), [""; 0]);
        assert_eq!(changed(|config| config.limits.strikes = 7), ["limits.strikes"]);
        assert_eq!(changed(|config| config.limits.burst = Some(7)), ["limits.burst"], "set where none was");
        assert_eq!(changed(|config| config.sip.trusted.clear()), ["sip.trusted"]);
        let both = changed(|config| {
            config.listen.pop();
            config.log.level = "debug".to_owned();
        });
        assert_eq!(both, ["listen", "log.level"]);
    }

    #[test]
    fn a_changed_secret_is_noticed_although_it_prints_the_same() {
        let mut old = Config::default();
        old.cluster.secret = Some(Secret::new("one secret, and long"));
        old.cluster.previous_secrets = vec![Secret::new("an older one, as long")];
        let mut new = old.clone();
        assert_eq!(changes(&old, &new), [""; 0]);
        new.cluster.secret = Some(Secret::new("another secret, long too"));
        new.cluster.previous_secrets = vec![Secret::new("one secret, and long")];
        assert_eq!(changes(&old, &new), ["cluster.previous_secrets", "cluster.secret"]);
        let with = |cookie: &str| {
            let text = format!("[[client.host]]\nhost = \"pbx\"\nheaders.Cookie = \"{cookie}\"\n");
            Config::from_toml(&text, "f").expect("right")
        };
        assert_eq!(changes(&with("one"), &with("two")), ["client.host"]);
    }
}
