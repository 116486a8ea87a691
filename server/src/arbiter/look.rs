//! What a worker answers to an operator's question, out of what its hubs show.

use std::sync::Arc;
use std::time::Duration;

use greenlet::inspect::Info;
use serde_json::{Map, Value, json};

use super::link::What;
use crate::serve::{Blind, Insight};

/// How long it may take to find out what was asked; the first stacks have functions' names looked up.
const LOOK: Duration = Duration::from_secs(25);

/// What can be looked into, with the number of the hub if there are several.
pub(super) type Seeing = (Option<usize>, Arc<dyn Insight>);

/// What an operator wants to know, in the form in which it gets it. Of several hubs those that can't be looked into are told of
/// beside the others; an error is what none has an answer to.
pub(super) fn look(
    hubs: &[Seeing],
    blind: &mut Vec<(Option<usize>, Blind)>,
    what: What,
) -> Result<Map<String, Value>, String> {
    let mut told = Map::new();
    let (mut text, mut list, mut count, mut has_answer) = (String::new(), Vec::new(), 0, false);
    for (hub, insight) in hubs {
        let seen = match what {
            What::Stacks(most) => insight.stacks(most, LOOK).map(|stacks| {
                let head = hub.map(|hub| format!("hub {hub}\n")).unwrap_or_default();
                text.extend([head, stacks]);
            }),
            What::Connections(most) => insight.connections(LOOK).map(|seen| {
                count += seen.len();
                list.extend(seen.iter().take(most - list.len()).map(|seen| numbered(json!(seen), *hub)));
            }),
            What::Greenlets(most) => insight.greenlets(LOOK).map(|infos| {
                count += infos.len();
                list.extend(infos.iter().take(most - list.len()).map(|info| numbered(greenlet(info), *hub)));
            }),
        };
        has_answer |= seen.is_ok();
        blind.extend(seen.err().map(|why| (*hub, why)));
    }
    if let (Some((_, why)), false) = (blind.first(), has_answer) {
        return Err(why.to_string());
    }
    for (hub, why) in &*blind {
        let hub = hub.unwrap_or_default();
        match what {
            What::Stacks(_) => text.push_str(&format!("hub {hub}: {why}\n")),
            What::Connections(_) | What::Greenlets(_) => {
                let silent = told.entry("silent").or_insert_with(|| json!([]));
                silent.as_array_mut().into_iter().for_each(|silent| {
                    silent.push(json!({"hub": hub, "why": why.to_string()}));
                });
            }
        }
    }
    match what {
        What::Stacks(_) => told.insert("text".to_owned(), text.into()),
        What::Connections(_) => told.insert("connections".to_owned(), list.into()),
        What::Greenlets(_) => told.insert("greenlets".to_owned(), list.into()),
    };
    if !matches!(what, What::Stacks(_)) {
        told.insert("count".to_owned(), count.into());
    }
    Ok(told)
}

/// A row of a list, with the number of its hub if there are several.
fn numbered(mut row: Value, hub: Option<usize>) -> Value {
    if let (Some(row), Some(hub)) = (row.as_object_mut(), hub) {
        row.insert("hub".to_owned(), hub.into());
    }
    row
}

fn greenlet(info: &Info) -> Value {
    json!({
        "id": info.id,
        "name": info.name,
        "parent": info.parent,
        "what": info.what,
        "since": info.since.map(|since| since.as_secs_f64()),
        "spawned_at": info.spawned_at.map(ToString::to_string),
        "stack_used": info.stack_used,
        "stack_size": info.stack_size,
    })
}
