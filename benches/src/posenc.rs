//! Cases of `llm-posenc`. Tables of cosines and sines are made before the clock starts, for us and for peers.

use anyhow::{Context as _, Result};
use llm_posenc::reference;
use llm_posenc::rope::{self, RopeConfig, RopePairing, RopeTable};
use ndarray::{Array1, Array2, Array4};
use serde_json::json;

use crate::case::{Bars, Case, Peer, Plan, Setup, Work, agree};
use crate::measure::{Calls, Contender};
use crate::peers::Input;

/// Every case of the crate.
pub(crate) fn plans() -> Vec<Plan> {
    let prefill = Rope {
        pairing: RopePairing::HalfSplit,
        pass: Pass::Forward,
        in_place: true,
        q: [1, 32, 2048, 128],
        k: [1, 8, 2048, 128],
        first_position: 0,
    };
    let interleaved = Rope {
        pairing: RopePairing::Interleaved,
        ..prefill
    };
    let decode = |rope: Rope| Rope {
        q: [1, 32, 1, 128],
        k: [1, 8, 1, 128],
        first_position: 2047,
        ..rope
    };
    let backward = |rope: Rope| Rope {
        pass: Pass::Backward,
        ..rope
    };
    let new_array = Rope {
        in_place: false,
        ..prefill
    };
    // A whole prompt in place is where main memory decides; what else there is has no bar.
    let bars = Bars {
        of_limit: Some(0.7),
        peers: &[("candle", 5.0), ("transformers", 10.0)],
    };
    let asked = [prefill, interleaved].map(|rope| rope.plan(bars));
    let others = [
        new_array,
        backward(prefill),
        backward(interleaved),
        decode(prefill),
        decode(interleaved),
    ];
    let others = others.map(|rope| rope.plan(Bars::default()));
    asked.into_iter().chain(others).collect()
}

/// `1×32×2048×128`
fn shape(shape: [usize; 4]) -> String {
    shape.map(|n| n.to_string()).join("×")
}

#[derive(Clone, Copy, PartialEq)]
enum Pass {
    Forward,
    Backward,
}

/// Rotates queries and keys, or their gradients.
#[derive(Clone, Copy)]
struct Rope {
    pairing: RopePairing,
    pass: Pass,
    in_place: bool,
    /// `[batch, heads, seq, head_dim]`
    q: [usize; 4],
    /// `[batch, kv_heads, seq, head_dim]`
    k: [usize; 4],
    first_position: usize,
}

impl Rope {
    fn plan(self, bars: Bars) -> Plan {
        let pairing = match self.pairing {
            RopePairing::Interleaved => "interleaved",
            _ => "half-split",
        };
        let pass = match self.pass {
            Pass::Forward => "",
            Pass::Backward => " backward",
        };
        let place = if self.in_place {
            "in place"
        } else {
            "new array"
        };
        Plan {
            name: format!(
                "rope{pass} {pairing} {place}, q {}, k {}",
                shape(self.q),
                shape(self.k)
            ),
            bars,
            build: Box::new(move |setup| self.build(setup)),
        }
    }

    fn build(self, setup: &Setup) -> Result<Case> {
        let seq = self.q[2];
        let config = RopeConfig::new(self.q[3], self.pairing);
        let positions: Array1<usize> = (self.first_position..self.first_position + seq).collect();
        let table = RopeTable::from_config(&config, &positions)?;
        let random = |stream, shape: [usize; 4]| {
            Array4::from_shape_vec(shape, setup.random(stream, shape.iter().product()))
        };
        let (q, k) = (random(10, self.q)?, random(11, self.k)?);
        let results = [self.rotated(&q, &table)?, self.rotated(&k, &table)?];

        // Angles in f64 here, cosines and sines rounded to f32 there: two products of numbers below 1 and their sum.
        let angles = reference::rope::angles(&positions, &reference::rope::inv_freq(&config));
        for (name, x, got) in [("q", &q, &results[0]), ("k", &k, &results[1])] {
            let want = self.reference(x, &angles)?;
            let got = got.iter().map(|&x| f64::from(x));
            agree(&format!("our {name}"), got, want, 1e-6)?;
        }

        let bytes = 2 * size_of::<f32>() * (q.len() + k.len());
        let sets = setup.sets(bytes / 2);
        #[cfg_attr(
            not(feature = "peers"),
            allow(unused_mut, reason = "candle comes with the feature")
        )]
        let mut peers = self.python(setup, [&q, &k], &table, sets, &results)?;
        #[cfg(feature = "peers")]
        if setup.python.is_some() && self.pass == Pass::Forward {
            peers.insert(0, self.candle([&q, &k], &table, sets, &results)?);
        }
        Ok(Case {
            work: Work::Copy { bytes },
            ours: self.ours([&q, &k], table, sets),
            peers,
        })
    }

    fn rotated(self, x: &Array4<f32>, table: &RopeTable) -> Result<Array4<f32>> {
        if self.in_place {
            let mut x = x.clone();
            match self.pass {
                Pass::Forward => rope::apply_inplace(&mut x, table, self.pairing)?,
                Pass::Backward => rope::backward_inplace(&mut x, table, self.pairing)?,
            }
            return Ok(x);
        }
        Ok(match self.pass {
            Pass::Forward => rope::apply(x, table, self.pairing)?,
            Pass::Backward => rope::backward(x, table, self.pairing)?,
        })
    }

    fn reference(self, x: &Array4<f32>, angles: &Array2<f64>) -> Result<Array4<f64>> {
        let x = x.mapv(f64::from);
        Ok(match self.pass {
            Pass::Forward => reference::rope::apply(&x, angles, self.pairing, 1.0)?,
            Pass::Backward => reference::rope::backward(&x, angles, self.pairing, 1.0)?,
        })
    }

    fn ours(self, qk: [&Array4<f32>; 2], table: RopeTable, sets: usize) -> Box<dyn Contender> {
        let mut sets = vec![qk.map(Array4::clone); sets];
        let Rope { pairing, .. } = self;
        Calls::boxed(move |call| {
            let set = call % sets.len();
            for x in &mut sets[set] {
                match (self.in_place, self.pass) {
                    (true, Pass::Forward) => rope::apply_inplace(x, &table, pairing)?,
                    (true, Pass::Backward) => rope::backward_inplace(x, &table, pairing)?,
                    (false, _) => {
                        std::hint::black_box(self.rotated(x, &table)?);
                    }
                }
            }
            Ok(())
        })
    }

    /// transformers: Llama's function for half-split pairs, GLM's for interleaved ones.
    fn python(
        self,
        setup: &Setup,
        [q, k]: [&Array4<f32>; 2],
        table: &RopeTable,
        sets: usize,
        results: &[Array4<f32>; 2],
    ) -> Result<Vec<Peer>> {
        let Some(python) = &setup.python else {
            return Ok(Vec::new());
        };
        let data = |name, shape: &[usize], data, rotates| Input {
            name,
            shape: shape.to_vec(),
            data,
            rotates,
        };
        let flat = "arrays made here are contiguous";
        let (cos, sin) = (table.cos(), table.sin());
        let inputs = [
            data("q", q.shape(), q.as_slice().context(flat)?, true),
            data("k", k.shape(), k.as_slice().context(flat)?, true),
            data("cos", cos.shape(), cos.as_slice().context(flat)?, false),
            data("sin", sin.shape(), sin.as_slice().context(flat)?, false),
        ];
        let params = json!({
            "interleaved": self.pairing == RopePairing::Interleaved,
            "backward": self.pass == Pass::Backward,
        });
        let mut peers = Vec::new();
        for opened in python.open(["posenc", "rope"], &params, &inputs, sets)? {
            for (name, ours) in ["q", "k"].into_iter().zip(results) {
                let what = format!("{name} of {}", opened.peer.library);
                let theirs = opened.outputs.get(name).context(what.clone())?;
                // The same table in f32 on both sides.
                let theirs = theirs.iter().map(|&x| f64::from(x));
                agree(&what, theirs, ours.iter().map(|&x| f64::from(x)), 1e-6)?;
            }
            peers.push(opened.peer);
        }
        Ok(peers)
    }

    /// candle's fused rotation; it has no backward.
    #[cfg(feature = "peers")]
    fn candle(
        self,
        qk: [&Array4<f32>; 2],
        table: &RopeTable,
        sets: usize,
        results: &[Array4<f32>; 2],
    ) -> Result<Peer> {
        use candle_core::{Device, Tensor};
        use candle_nn::rotary_emb;

        let rotate = match self.pairing {
            RopePairing::Interleaved => rotary_emb::rope_i,
            _ => rotary_emb::rope,
        };
        let tensor = |shape: &[usize], data: Vec<f32>| Tensor::from_vec(data, shape, &Device::Cpu);
        let [cos, sin] = [table.cos(), table.sin()];
        let cos = tensor(cos.shape(), cos.iter().copied().collect())?;
        let sin = tensor(sin.shape(), sin.iter().copied().collect())?;
        let mut tensors = Vec::new();
        for _ in 0..sets {
            for x in qk {
                tensors.push(tensor(x.shape(), x.iter().copied().collect())?);
            }
        }
        for (x, ours) in tensors.iter().zip(results) {
            let theirs = rotate(x, &cos, &sin)?.flatten_all()?.to_vec1::<f32>()?;
            let theirs = theirs.iter().map(|&x| f64::from(x));
            agree("candle", theirs, ours.iter().map(|&x| f64::from(x)), 1e-6)?;
        }
        Ok(Peer {
            library: "candle".to_owned(),
            version: crate::peers::CANDLE.to_owned(),
            contender: Calls::boxed(move |call| {
                let set = call % sets;
                for x in &tensors[2 * set..2 * set + 2] {
                    std::hint::black_box(rotate(x, &cos, &sin)?);
                }
                Ok(())
            }),
        })
    }
}
