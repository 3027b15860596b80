//! Results as a file: one JSON object, a few figures a line, so that a new recording shows in a diff what became slower.

use serde_json::{Value, json};

use super::{Against, Cost, Curve, Host, LeftOut, Loaded, Method, Results, Row, Scaling, Spread, Waits};

/// Why a text is no results.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("results of a measurement: {0}")]
pub struct Unreadable(String);

/// Three decimals: more would be noise.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn spread(spread: Spread) -> Value {
    json!([spread.median, spread.least, spread.most].map(rounded))
}

fn cost(cost: Cost) -> Value {
    json!({ "ns": spread(cost.ns), "ratio": spread(cost.ratio) })
}

fn loaded(loaded: Loaded) -> Value {
    let Waits {
        visits,
        waited,
        limit,
        p50,
        p99,
        worst,
    } = loaded.waits;
    let [limit, p50, p99, worst] = [limit, p50, p99, worst].map(rounded);
    json!({
        "cost": cost(loaded.cost),
        "faults": loaded.faults.map(spread),
        "with_faults": loaded.with_faults.map(spread),
        "waits": { "visits": visits, "waited": waited, "limit": limit, "p50": p50, "p99": p99, "worst": worst },
    })
}

fn row(row: &Row) -> Value {
    json!({
        "engine": row.engine,
        "batch": row.batch,
        "moved": row.moved,
        "stayed": row.stayed,
        "alone": row.alone.map(cost),
        "loaded": row.loaded.map(loaded),
    })
}

fn scaling(scaling: &Scaling) -> Value {
    let curves = scaling.curves.iter().map(|curve| {
        let points = curve.points.iter().map(|(at, ns)| json!([at, spread(*ns)]));
        json!({ "name": curve.name, "points": points.collect::<Vec<_>>() })
    });
    json!({ "against": scaling.against.word(), "curves": curves.collect::<Vec<_>>() })
}

impl Results {
    /// Returns the results as text.
    #[must_use]
    pub fn json(&self) -> String {
        let list = |items: Vec<Value>| {
            let lines: Vec<String> = items.iter().map(|item| format!("    {item}")).collect();
            format!("[\n{}\n  ]", lines.join(",\n"))
        };
        let Method {
            pages,
            rounds,
            writers,
            disturbed,
        } = self.method;
        let host = json!({
            "processor": self.host.processor,
            "cores": self.host.cores,
            "memory": self.host.memory,
            "nodes": self.host.nodes,
            "kernel": self.host.kernel,
        });
        let method = json!({ "pages": pages, "rounds": rounds, "writers": writers, "disturbed": rounded(disturbed) });
        let left_out = self
            .left_out
            .iter()
            .map(|left| json!({ "what": left.what, "why": left.why }));
        let parts = [
            ("commit", json!(self.commit).to_string()),
            ("host", host.to_string()),
            ("method", method.to_string()),
            ("rows", list(self.rows.iter().map(row).collect())),
            ("left_out", list(left_out.collect())),
            ("scaling", list(self.scaling.iter().map(scaling).collect())),
        ];
        let parts: Vec<String> = parts
            .iter()
            .map(|(key, value)| format!("  \"{key}\": {value}"))
            .collect();
        format!("{{\n{}\n}}\n", parts.join(",\n"))
    }

    /// Reads results.
    ///
    /// # Errors
    /// The text is no JSON, or the first part that is missing or is something else.
    pub fn parse(text: &str) -> Result<Self, Unreadable> {
        let value: Value = serde_json::from_str(text).map_err(|error| Unreadable(error.to_string()))?;
        let all = Part { value: &value, at: "" };
        let (host, method) = (all.part("host")?, all.part("method")?);
        Ok(Self {
            commit: all.part("commit")?.text()?,
            host: Host {
                processor: host.part("processor")?.text()?,
                cores: host.part("cores")?.count()?,
                memory: host.part("memory")?.count()?,
                nodes: host.part("nodes")?.count()?,
                kernel: host.part("kernel")?.text()?,
            },
            method: Method {
                pages: method.part("pages")?.count()?,
                rounds: method.part("rounds")?.count()?,
                writers: method.part("writers")?.count()?,
                disturbed: method.part("disturbed")?.number()?,
            },
            rows: all.part("rows")?.each(Part::row)?,
            left_out: all.part("left_out")?.each(|left| {
                Ok(LeftOut {
                    what: left.part("what")?.text()?,
                    why: left.part("why")?.text()?,
                })
            })?,
            scaling: all.part("scaling")?.each(Part::scaling)?,
        })
    }
}

/// A value, and the key it stands at.
#[derive(Clone, Copy)]
struct Part<'v> {
    value: &'v Value,
    at: &'v str,
}

impl Part<'_> {
    fn wrong(self, wanted: &str) -> Unreadable {
        Unreadable(format!("{:?} is no {wanted}: {}", self.at, self.value))
    }

    fn part(self, at: &'static str) -> Result<Self, Unreadable> {
        let value = self.value.get(at);
        value
            .map(|value| Part { value, at })
            .ok_or_else(|| Unreadable(format!("{at:?} is missing")))
    }

    fn text(self) -> Result<String, Unreadable> {
        self.value.as_str().map(str::to_owned).ok_or_else(|| self.wrong("text"))
    }

    fn count(self) -> Result<u64, Unreadable> {
        self.value.as_u64().ok_or_else(|| self.wrong("count"))
    }

    fn number(self) -> Result<f64, Unreadable> {
        self.value.as_f64().ok_or_else(|| self.wrong("number"))
    }

    fn each<T>(self, read: impl Fn(Self) -> Result<T, Unreadable>) -> Result<Vec<T>, Unreadable> {
        let values = self.value.as_array().ok_or_else(|| self.wrong("list"))?;
        values.iter().map(|value| read(Part { value, at: self.at })).collect()
    }

    fn maybe<T>(self, read: impl Fn(Self) -> Result<T, Unreadable>) -> Result<Option<T>, Unreadable> {
        (!self.value.is_null()).then(|| read(self)).transpose()
    }

    fn spread(self) -> Result<Spread, Unreadable> {
        match self.each(Part::number)?[..] {
            [median, least, most] if least <= median && median <= most => Ok(Spread { median, least, most }),
            _ => Err(self.wrong("median with the least and the most")),
        }
    }

    fn cost(self) -> Result<Cost, Unreadable> {
        Ok(Cost {
            ns: self.part("ns")?.spread()?,
            ratio: self.part("ratio")?.spread()?,
        })
    }

    fn loaded(self) -> Result<Loaded, Unreadable> {
        let waits = self.part("waits")?;
        Ok(Loaded {
            cost: self.part("cost")?.cost()?,
            faults: self.part("faults")?.maybe(Part::spread)?,
            with_faults: self.part("with_faults")?.maybe(Part::spread)?,
            waits: Waits {
                visits: waits.part("visits")?.count()?,
                waited: waits.part("waited")?.count()?,
                limit: waits.part("limit")?.number()?,
                p50: waits.part("p50")?.number()?,
                p99: waits.part("p99")?.number()?,
                worst: waits.part("worst")?.number()?,
            },
        })
    }

    fn row(self) -> Result<Row, Unreadable> {
        let batch = self.part("batch")?;
        Ok(Row {
            engine: self.part("engine")?.text()?,
            batch: batch.maybe(|batch| u32::try_from(batch.count()?).map_err(|_| batch.wrong("size of a batch")))?,
            moved: self.part("moved")?.count()?,
            stayed: self.part("stayed")?.count()?,
            alone: self.part("alone")?.maybe(Part::cost)?,
            loaded: self.part("loaded")?.maybe(Part::loaded)?,
        })
    }

    fn scaling(self) -> Result<Scaling, Unreadable> {
        let word = self.part("against")?;
        let known = Against::ALL
            .into_iter()
            .find(|against| word.value.as_str() == Some(against.word()));
        Ok(Scaling {
            against: known.ok_or_else(|| word.wrong("thing to draw costs against"))?,
            curves: self.part("curves")?.each(|curve| {
                Ok(Curve {
                    name: curve.part("name")?.text()?,
                    points: curve.part("points")?.each(Part::point)?,
                })
            })?,
        })
    }

    fn point(self) -> Result<(u64, Spread), Unreadable> {
        let wrong = || self.wrong("point of a curve");
        let [at, ns] = self.value.as_array().ok_or_else(wrong)?.as_slice() else {
            return Err(wrong());
        };
        let at = Part { value: at, at: self.at }.count()?;
        Ok((at, Part { value: ns, at: self.at }.spread()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Results {
        Results::recorded().unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let results = results();
        assert!(!results.rows.is_empty() && !results.scaling.is_empty());
        assert_eq!(Results::parse(&results.json()), Ok(results));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let text = results().json();
        for (from, to, said) in [
            ("\"commit\": \"", "\"commits\": \"", "\"commit\" is missing"),
            ("\"rounds\":", "\"rounds\":-", "\"rounds\" is no count: -"),
            (
                "\"against\":\"pages\"",
                "\"against\":\"moons\"",
                "\"against\" is no thing to draw costs against",
            ),
            ("\"ns\":[", "\"ns\":[1e9,2e9,", "\"ns\" is no median"),
            ("{", "", "trailing characters"),
        ] {
            let broken = text.replacen(from, to, 1);
            assert_ne!(broken, text, "{from}");
            let error = Results::parse(&broken).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
