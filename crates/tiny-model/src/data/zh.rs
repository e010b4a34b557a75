//! Chinese phrasings of the problem and of its answer.

use super::draw::Draws;
use super::puzzle::{Asked, Puzzle};

const SUBJECTS: &[&str] = &[
    "现有鸡兔",
    "有鸡兔",
    "鸡兔",
    "鸡和兔",
    "鸡和兔子",
    "鸡、兔",
    "笼子里有鸡和兔",
    "笼子里有鸡和兔子",
    "笼子里的鸡和兔",
    "一个笼子里有鸡兔",
    "笼中有鸡和兔",
    "农场里有鸡和兔子",
    "院子里有鸡和兔",
    "小明家有鸡和兔",
    "小红家养了鸡和兔子",
    "爷爷家养了鸡与兔",
    "动物园里有鸡和兔",
    "鸡与兔",
    "家里有小鸡和小兔",
    "农民养了鸡和兔",
    "已知鸡兔",
    "今有鸡兔",
    "鸡兔同笼，",
    "鸡兔同笼，",
    "鸡兔同笼，鸡和兔",
    "鸡兔同笼问题：",
    "有若干只鸡和兔在同一个笼子里，",
    "把鸡和兔关在一个笼子里，",
];

const HEADS: &[&str] = &[
    "{h}只",
    "{h}只",
    "共{h}只",
    "共有{h}只",
    "一共{h}只",
    "一共有{h}只",
    "总共{h}只",
    "总共有{h}只",
    "合计{h}只",
    "{h}个头",
    "共{h}个头",
    "共有{h}个头",
    "有{h}个头",
    "一共有{h}个头",
    "头{h}个",
    "头共{h}个",
    "从上面数，有{h}个头",
];

const FEET: &[&str] = &[
    "共有{f}只脚",
    "共有{f}只脚",
    "共{f}只脚",
    "一共{f}只脚",
    "一共有{f}只脚",
    "总共有{f}只脚",
    "{f}只脚",
    "有{f}只脚",
    "脚{f}只",
    "脚共{f}只",
    "共有{f}条腿",
    "共{f}条腿",
    "一共有{f}条腿",
    "有{f}条腿",
    "{f}条腿",
    "腿共{f}条",
    "总共{f}条腿",
    "从下面数，有{f}只脚",
    "它们共有{f}只脚",
    "脚的总数是{f}",
];

const LEADS: &[&str] = &[
    "，请问",
    "，请问",
    "，问",
    "，问：",
    "，求",
    "，那么",
    "，",
    "。",
    "。请问",
    "。问",
];

// In each of the two-sided forms {a} is the animal that there is more of.
const MORE: &[&str] = &[
    "{a}比{b}多了几只？",
    "{a}比{b}多几只？",
    "{a}比{b}多多少只？",
    "{a}比{b}多了多少只？",
    "{a}的数量比{b}多几只？",
];

const HOW_MANY: &[&str] = &[
    "{a}有几只？",
    "{a}有多少只？",
    "有几只{a}？",
    "有多少只{a}？",
    "{a}几只？",
    "{a}的数量是多少？",
    "其中有几只{a}？",
];

const EACH: &[&str] = &[
    "{a}和{b}各有几只？",
    "{a}和{b}各有多少只？",
    "{a}{b}各几只？",
    "{a}{b}各有几只？",
    "{a}{b}各有多少只？",
    "{a}{b}各多少只？",
    "{a}和{b}分别有几只？",
    "{a}和{b}分别有多少只？",
    "{a}和{b}各是多少只？",
    "有几只{a}、几只{b}？",
    "有几只{a}和几只{b}？",
    "有多少只{a}和多少只{b}？",
    "{a}、{b}各有几只？",
];

/// The wording of the old book in which the problem is first found.
const CLASSIC: &str = "今有雉兔同笼，上有{h}头，下有{f}足，问雉兔各几何？";

/// The question, its phrasing drawn.
pub(crate) fn question(puzzle: Puzzle, draws: &mut Draws) -> String {
    let heads = puzzle.heads().to_string();
    let feet = puzzle.feet().to_string();
    let spaced = draws.chance(8);
    let fill = |template: &str| {
        let text = template.replace("{h}", &heads).replace("{f}", &feet);
        if spaced { space_numbers(&text) } else { text }
    };
    // One in six is the article's wording with other numbers.
    if draws.chance(16) {
        let asked = ask(
            puzzle.asked,
            "兔",
            &MORE[..1],
            &HOW_MANY[..1],
            &EACH[..1],
            draws,
        );
        let text = fill("现有鸡兔{h}只,共有{f}只脚,请问") + &asked;
        return if draws.chance(50) {
            ascii_marks(&text)
        } else {
            full_width_marks(&text)
        };
    }
    if puzzle.asked == Asked::Each && draws.chance(5) {
        return fill(CLASSIC);
    }
    let subject = draws.pick(SUBJECTS);
    let heads_clause = draws.pick(HEADS);
    let feet_clause = draws.pick(FEET);
    let between = draws.pick(&["，", "，", "，", "，", "、"]);
    let statement = if draws.chance(75) {
        format!("{subject}{heads_clause}{between}{feet_clause}")
    } else {
        format!("{subject}{feet_clause}{between}{heads_clause}")
    };
    let rabbit = draws.pick(&["兔", "兔", "兔子"]);
    let lead = draws.pick(LEADS);
    let asked = ask(puzzle.asked, rabbit, MORE, HOW_MANY, EACH, draws);
    let mut text = fill(&format!("{statement}{lead}{asked}"));
    if draws.chance(6) && text.ends_with('？') {
        text.pop();
    }
    if draws.chance(45) {
        ascii_marks(&text)
    } else {
        text
    }
}

fn ask(
    asked: Asked,
    rabbit: &str,
    more: &[&str],
    how_many: &[&str],
    each: &[&str],
    draws: &mut Draws,
) -> String {
    let (template, a, b) = match asked {
        Asked::MoreChickens => (draws.pick(more), "鸡", rabbit),
        Asked::MoreRabbits => (draws.pick(more), rabbit, "鸡"),
        Asked::Chickens => (draws.pick(how_many), "鸡", rabbit),
        Asked::Rabbits => (draws.pick(how_many), rabbit, "鸡"),
        Asked::Each => (draws.pick(each), "鸡", rabbit),
    };
    template.replace("{a}", a).replace("{b}", b)
}

/// What `x` stands for: the first line of a solution.
pub(crate) fn unknowns(heads: u32) -> String {
    format!("设鸡有x只，兔有{heads}-x只。")
}

/// The last line of a solution: what was asked.
pub(crate) fn conclusion(puzzle: Puzzle) -> String {
    let Puzzle {
        chickens,
        rabbits,
        asked,
    } = puzzle;
    match asked {
        Asked::MoreChickens => format!("鸡比兔多{chickens}-{rabbits}={}只。", chickens - rabbits),
        Asked::MoreRabbits => format!("兔比鸡多{rabbits}-{chickens}={}只。", rabbits - chickens),
        Asked::Chickens => format!("鸡有{chickens}只。"),
        Asked::Rabbits => format!("兔有{rabbits}只。"),
        Asked::Each => format!("鸡有{chickens}只，兔有{rabbits}只。"),
    }
}

/// Chinese punctuation as the ASCII marks that many people type.
pub(crate) fn ascii_marks(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '，' => ',',
            '。' => '.',
            '？' => '?',
            '：' => ':',
            '！' => '!',
            other => other,
        })
        .collect()
}

fn full_width_marks(text: &str) -> String {
    text.replace(',', "，").replace('?', "？")
}

/// A space on each side of each number that stands between other characters.
fn space_numbers(text: &str) -> String {
    let mut spaced = String::with_capacity(text.len() + 8);
    let mut previous: Option<char> = None;
    for c in text.chars() {
        if let Some(before) = previous
            && before.is_ascii_digit() != c.is_ascii_digit()
            && !"，、。：,".contains(before)
        {
            spaced.push(' ');
        }
        spaced.push(c);
        previous = Some(c);
    }
    spaced
}
