//! Programs that change a request: bytes, read as steps, so that every input is a program and most small changes of it are
//! small changes of the request.

use std::sync::LazyLock;

use serde_json::{Map, Value};

/// Values that rules look at, of every form.
static VALUES: LazyLock<Vec<Value>> = LazyLock::new(|| serde_json::from_str(include_str!("values.json")).unwrap());
/// Names of fields that rules look at.
static FIELDS: LazyLock<Vec<String>> = LazyLock::new(|| serde_json::from_str(include_str!("fields.json")).unwrap());

/// More steps lead away from anything that a cluster sees.
const MAX_STEPS: usize = 40;
/// A request with more values than this is not changed further: steps that copy would double it each time.
const MAX_VALUES: usize = 3000;
/// A value of a longer text is not wrapped into one: each time that doubles its backslashes.
const MAX_TEXT: usize = 16 << 10;

const NAMESPACES: [&str; 6] = ["serving", "lab", "trial", "research", "again", ""];
const OPERATIONS: [&str; 4] = ["CREATE", "UPDATE", "DELETE", "CONNECT"];
/// Parts of a request that steps change.
const PARTS: [&str; 2] = ["object", "oldObject"];

/// Bytes to read from; zeros follow them.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn next(&mut self) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first)
    }

    fn wide(&mut self) -> usize {
        self.next() << 8 | self.next()
    }

    /// A text of the input itself.
    fn text(&mut self) -> String {
        let length = (self.next() % 32).min(self.0.len());
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        String::from_utf8_lossy(text).into_owned()
    }

    fn value(&mut self) -> Value {
        match self.next() {
            255 => self.text().into(),
            254 => i64::from_le_bytes(std::array::from_fn(|_| u8::try_from(self.next()).unwrap())).into(),
            number => VALUES[number % VALUES.len()].clone(),
        }
    }

    fn field(&mut self) -> String {
        match self.next() {
            255 => self.text(),
            number => FIELDS[number % FIELDS.len()].clone(),
        }
    }
}

/// The request that a program makes of one of these.
pub fn run(program: &[u8], requests: &[Value]) -> Value {
    let mut bytes = Bytes(program);
    let mut request = requests[bytes.next() % requests.len()].clone();
    // 0 leaves what the request has.
    match bytes.next() {
        0 => {}
        number => request["namespace"] = NAMESPACES[number % NAMESPACES.len()].into(),
    }
    match bytes.next() {
        0 => {}
        number => request["operation"] = OPERATIONS[number % OPERATIONS.len()].into(),
    }
    for _ in 0..MAX_STEPS {
        if bytes.0.is_empty() {
            break;
        }
        step(&mut request, &mut bytes, requests);
    }
    request
}

fn step(request: &mut Value, bytes: &mut Bytes<'_>, requests: &[Value]) {
    let what = bytes.next();
    let part = PARTS[usize::from(what & 0x80 != 0)];
    let Some(root) = request.get_mut(part).filter(|root| !root.is_null()) else {
        // The object of another request, as the old one or in place of none.
        request[part] = requests[bytes.next() % requests.len()]["object"].clone();
        return;
    };
    let mut places = Vec::new();
    pointers(root, String::new(), &mut places);
    if places.len() > MAX_VALUES {
        return;
    }
    let place = places[bytes.wide() % places.len()].clone();
    match what & 0x7f {
        // A field or an item more, most often.
        0..=59 => {
            let (field, value) = (bytes.field(), bytes.value());
            match root.pointer_mut(&place) {
                Some(Value::Object(fields)) => drop(fields.insert(field, value)),
                Some(Value::Array(items)) => items.push(value),
                Some(other) => *other = value,
                None => {}
            }
        }
        60..=89 => replace(root, &place, bytes.value()),
        90..=104 => remove(root, &place),
        // What stands elsewhere in it.
        105..=119 => {
            let from = places[bytes.wide() % places.len()].clone();
            let value = root.pointer(&from).cloned().unwrap_or_default();
            match root.pointer_mut(&place) {
                Some(Value::Array(items)) => items.push(value),
                _ => replace(root, &place, value),
            }
        }
        // The same in another form.
        _ => {
            let value = root.pointer(&place).cloned().unwrap_or_default();
            let wrapped = match bytes.next() % 3 {
                0 => Value::Array(vec![value]),
                1 => Value::Object(Map::from_iter([(bytes.field(), value)])),
                _ => Some(value.to_string()).filter(|text| text.len() <= MAX_TEXT).map_or(value, Value::String),
            };
            replace(root, &place, wrapped);
        }
    }
}

fn replace(root: &mut Value, place: &str, value: Value) {
    if let Some(found) = root.pointer_mut(place) {
        *found = value;
    }
}

fn remove(root: &mut Value, place: &str) {
    let Some((parent, last)) = place.rsplit_once('/') else { return };
    match root.pointer_mut(parent) {
        Some(Value::Object(fields)) => drop(fields.remove(&last.replace("~1", "/").replace("~0", "~"))),
        Some(Value::Array(items)) => match last.parse::<usize>() {
            Ok(index) if index < items.len() => drop(items.remove(index)),
            _ => {}
        },
        _ => {}
    }
}

/// Where each value is.
fn pointers(value: &Value, at: String, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                pointers(value, format!("{at}/{}", field.replace('~', "~0").replace('/', "~1")), into);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                pointers(value, format!("{at}/{index}"), into);
            }
        }
        _ => {}
    }
    into.push(at);
}
