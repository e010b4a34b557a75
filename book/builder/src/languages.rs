//! The languages of the book. English is the source; the others come from `po/`.

/// One language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Language {
    /// For the attribute `lang` of the pages.
    pub(crate) tag: &'static str,
    /// Folder below `html/`.
    pub(crate) folder: &'static str,
    /// Stem of the file in `po/`; the source has none.
    pub(crate) po: Option<&'static str>,
    /// What its speakers call it.
    pub(crate) name: &'static str,
    /// Title of the book.
    pub(crate) title: &'static str,
}

/// Each language, the source first.
pub(crate) const ALL: [Language; 2] = [
    Language {
        tag: "en",
        folder: "en",
        po: None,
        name: "English",
        title: "Language models from blocks",
    },
    Language {
        tag: "zh-CN",
        folder: "zh",
        po: Some("zh_CN"),
        name: "中文",
        title: "用积木搭建语言模型",
    },
];
