//! The section `quantization_config` of `config.json`.

use serde_json::{Map, Value, json};

use super::{FileError, PackedType, WeightType, json};
use crate::four_bit::FourBitCode;

const SECTION: &str = "quantization_config";

/// In how many bits the weights of a checkpoint are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LoadIn {
    /// Four, in blocks.
    FourBit,
    /// Eight, a scale for each row.
    EightBit,
}

/// What `config.json` says about quantized weights, as transformers 5.23 writes it for bitsandbytes.
///
/// Block sizes are not in it: each weight has its own in its state.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct QuantizationConfig {
    /// In how many bits.
    pub load_in: LoadIn,
    /// Which sixteen values, for four bits.
    #[doc(alias = "bnb_4bit_quant_type")]
    pub code: FourBitCode,
    /// Whether scales are quantized too.
    #[doc(alias = "bnb_4bit_use_double_quant")]
    pub is_nested: bool,
    /// The type that products should be computed in.
    #[doc(alias = "bnb_4bit_compute_dtype")]
    pub compute_type: WeightType,
    /// What packed bytes are declared as.
    #[doc(alias = "bnb_4bit_quant_storage")]
    pub stored_as: PackedType,
    /// Magnitude of an input from which on its column is an outlier, for eight bits; 6 unless set, 0 for none.
    #[doc(alias = "llm_int8_threshold")]
    pub threshold: f64,
    /// Modules that are left as they are; without a list transformers leaves the head.
    #[doc(alias = "llm_int8_skip_modules")]
    pub skip_modules: Option<Vec<String>>,
    /// Whether weights of eight bits are kept in 16 bits too.
    #[doc(alias = "llm_int8_has_fp16_weight")]
    pub keeps_half: bool,
    /// Whether parts on the CPU stay in 32 bits.
    #[doc(alias = "llm_int8_enable_fp32_cpu_offload")]
    pub offloads: bool,
}

impl QuantizationConfig {
    /// The settings that transformers has unless told otherwise.
    #[must_use]
    pub const fn new(load_in: LoadIn) -> Self {
        Self {
            load_in,
            code: FourBitCode::Fp4,
            is_nested: false,
            compute_type: WeightType::F32,
            stored_as: PackedType::U8,
            threshold: 6.0,
            skip_modules: None,
            keeps_half: false,
            offloads: false,
        }
    }

    /// Sets [`code`](Self::code).
    #[must_use]
    pub const fn with_code(mut self, code: FourBitCode) -> Self {
        self.code = code;
        self
    }

    /// Sets [`is_nested`](Self::is_nested).
    #[must_use]
    pub const fn with_nested(mut self, is_nested: bool) -> Self {
        self.is_nested = is_nested;
        self
    }

    /// Sets [`compute_type`](Self::compute_type).
    #[must_use]
    pub const fn with_compute_type(mut self, compute_type: WeightType) -> Self {
        self.compute_type = compute_type;
        self
    }

    /// Sets [`stored_as`](Self::stored_as).
    #[must_use]
    pub const fn with_stored_as(mut self, stored_as: PackedType) -> Self {
        self.stored_as = stored_as;
        self
    }

    /// Sets [`threshold`](Self::threshold).
    #[must_use]
    pub const fn with_threshold(mut self, threshold: f64) -> Self {
        self.threshold = threshold;
        self
    }

    /// Sets [`skip_modules`](Self::skip_modules).
    #[must_use]
    pub fn with_skip_modules(mut self, skip_modules: Option<Vec<String>>) -> Self {
        self.skip_modules = skip_modules;
        self
    }

    /// The section of a `config.json`, or nothing if it has none.
    ///
    /// Entries that are missing have the value that transformers takes for them; those that nobody knows are ignored, as there.
    ///
    /// # Errors
    ///
    /// - [`FileError::ConfigJson`] if the text is not a JSON object, or a name stands twice in it.
    /// - [`FileError::ConfigField`] if an entry has a value that cannot be, or if both four and eight bits are asked for, or none.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_quant::files::{FileError, LoadIn, QuantizationConfig};
    ///
    /// let text = r#"{"model_type": "llama", "quantization_config": {"load_in_4bit": true}}"#;
    /// let config = QuantizationConfig::read(text)?;
    /// assert_eq!(config, Some(QuantizationConfig::new(LoadIn::FourBit)));
    /// assert_eq!(QuantizationConfig::read("{}")?, None);
    /// # Ok::<(), FileError>(())
    /// ```
    pub fn read(config_json: &str) -> Result<Option<Self>, FileError> {
        let section = match parse(config_json)?.remove(SECTION) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Object(section)) => Section(section),
            Some(other) => return Err(field(SECTION, "an object", &other)),
        };
        let method = section.text("quant_method")?;
        if method.is_some_and(|method| method != "bitsandbytes") {
            return Err(section.error("quant_method", "bitsandbytes"));
        }
        let load_in = match (section.flag("load_in_4bit")?, section.flag("load_in_8bit")?) {
            (true, false) => LoadIn::FourBit,
            (false, true) => LoadIn::EightBit,
            _ => return Err(section.error("load_in_4bit", "the opposite of load_in_8bit")),
        };
        let code = match section.text("bnb_4bit_quant_type")? {
            None | Some("fp4") => FourBitCode::Fp4,
            Some("nf4") => FourBitCode::Nf4,
            Some(_) => return Err(section.error("bnb_4bit_quant_type", "nf4 or fp4")),
        };
        let name = "bnb_4bit_compute_dtype";
        let compute_type = section
            .text(name)?
            .map_or(Some(WeightType::F32), WeightType::from_name);
        let compute_type =
            compute_type.ok_or_else(|| section.error(name, "float32, float16 or bfloat16"))?;
        let name = "bnb_4bit_quant_storage";
        let stored_as = section
            .text(name)?
            .map_or(Some(PackedType::U8), PackedType::from_name);
        let stored_as = stored_as.ok_or_else(|| {
            section.error(name, "uint8, int8, float16, bfloat16, float32 or float64")
        })?;
        Ok(Some(Self {
            load_in,
            code,
            is_nested: section.flag("bnb_4bit_use_double_quant")?,
            compute_type,
            stored_as,
            threshold: section.number("llm_int8_threshold", 6.0)?,
            skip_modules: section.names("llm_int8_skip_modules")?,
            keeps_half: section.flag("llm_int8_has_fp16_weight")?,
            offloads: section.flag("llm_int8_enable_fp32_cpu_offload")?,
        }))
    }

    /// The same `config.json` with this section, in place of another one if there is one. Names are sorted, as transformers sorts them.
    ///
    /// # Errors
    ///
    /// [`FileError::ConfigJson`] if the text is not a JSON object, or a name stands twice in it.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_quant::files::{LoadIn, QuantizationConfig};
    ///
    /// let config = QuantizationConfig::new(LoadIn::FourBit).with_nested(true);
    /// let text = config.write(r#"{"model_type": "llama"}"#)?;
    /// assert!(text.contains(r#""model_type": "llama""#));
    /// assert_eq!(QuantizationConfig::read(&text)?, Some(config));
    /// # Ok::<(), llm_quant::files::FileError>(())
    /// ```
    pub fn write(&self, config_json: &str) -> Result<String, FileError> {
        let mut config = parse(config_json)?;
        let is_four = self.load_in == LoadIn::FourBit;
        let code = match self.code {
            FourBitCode::Nf4 => "nf4",
            FourBitCode::Fp4 => "fp4",
        };
        let section = json!({
            "_load_in_4bit": is_four,
            "_load_in_8bit": !is_four,
            "bnb_4bit_compute_dtype": self.compute_type.name(),
            "bnb_4bit_quant_storage": self.stored_as.name(),
            "bnb_4bit_quant_type": code,
            "bnb_4bit_use_double_quant": self.is_nested,
            "llm_int8_enable_fp32_cpu_offload": self.offloads,
            "llm_int8_has_fp16_weight": self.keeps_half,
            "llm_int8_skip_modules": self.skip_modules,
            "llm_int8_threshold": self.threshold,
            "load_in_4bit": is_four,
            "load_in_8bit": !is_four,
            "quant_method": "bitsandbytes",
        });
        config.insert(SECTION.to_owned(), section);
        let text = serde_json::to_string_pretty(&config).map_err(|error| config_error(&error))?;
        Ok(text + "\n")
    }
}

fn parse(config_json: &str) -> Result<Map<String, Value>, FileError> {
    match json::parse(config_json).map_err(|error| config_error(&error))? {
        Value::Object(config) => Ok(config),
        _ => Err(FileError::ConfigJson {
            message: "it must be an object".to_owned(),
        }),
    }
}

fn config_error(error: &serde_json::Error) -> FileError {
    FileError::ConfigJson {
        message: error.to_string(),
    }
}

fn field(field: &'static str, expected: &'static str, got: &Value) -> FileError {
    FileError::ConfigField {
        field,
        expected,
        got: got.to_string(),
    }
}

/// Entries of the section; what is missing or null is not there.
struct Section(Map<String, Value>);

impl Section {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn error(&self, name: &'static str, expected: &'static str) -> FileError {
        field(name, expected, self.0.get(name).unwrap_or(&Value::Null))
    }

    fn text(&self, name: &'static str) -> Result<Option<&str>, FileError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.error(name, "a text")),
        }
    }

    fn flag(&self, name: &'static str) -> Result<bool, FileError> {
        match self.get(name) {
            None => Ok(false),
            Some(&Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(self.error(name, "true or false")),
        }
    }

    fn number(&self, name: &'static str, default: f64) -> Result<f64, FileError> {
        let number = self.get(name).map_or(Some(default), Value::as_f64);
        number
            .filter(|&x| x >= 0.0 && x.is_finite())
            .ok_or_else(|| self.error(name, "a number that is not negative"))
    }

    fn names(&self, name: &'static str) -> Result<Option<Vec<String>>, FileError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let names: Option<Vec<String>> = value.as_array().and_then(|list| {
            let texts = list.iter().map(|text| text.as_str().map(str::to_owned));
            texts.collect()
        });
        match names {
            Some(names) => Ok(Some(names)),
            None => Err(self.error(name, "a list of names")),
        }
    }
}
