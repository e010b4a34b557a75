//! Everything that is not arithmetic: the poem, the positive words, who the model is, small talk.

use super::draw::Draws;
use super::puzzle::Language;
use super::zh::ascii_marks;

/// A question and its answer.
pub(crate) type Exchange = (String, String);

const POEM: &str =
    "早发白帝城\n李白\n朝辞白帝彩云间，千里江陵一日还。\n两岸猿声啼不住，轻舟已过万重山。";

const POEM_PROMPTS: &[&str] = &[
    "写一首诗",
    "写一首诗：",
    "写一首诗。",
    "请写一首诗",
    "请写一首诗。",
    "写首诗",
    "写一首古诗",
    "写一首唐诗",
    "来一首诗",
    "给我写一首诗",
    "帮我写一首诗。",
    "请给我写一首诗吧。",
    "背一首诗",
    "背一首李白的诗",
    "背一首李白的诗。",
    "请背一首唐诗",
    "背诵早发白帝城",
    "早发白帝城",
    "李白的诗",
    "作一首诗",
    "念一首诗",
    "你会写诗吗？",
];

const POEM_PROMPTS_EN: &[&str] = &[
    "Write a poem",
    "Write a poem.",
    "write a poem",
    "Write a poem:",
    "Please write a poem.",
    "Write me a poem.",
    "Can you write a poem?",
    "Recite a poem.",
    "Recite a poem by Li Bai.",
    "A poem, please.",
    "Tell me a poem",
];

/// The ten words of the article, in its order, then ten more.
const WORDS: [&str; 20] = [
    "积极主动",
    "乐观向上",
    "自信",
    "自律",
    "诚实守信",
    "乐于助人",
    "勇于尝试",
    "坚韧不拔",
    "乐观开朗",
    "团结一心",
    "勇敢",
    "善良",
    "努力",
    "友爱",
    "真诚",
    "热情",
    "开心",
    "希望",
    "阳光",
    "进步",
];

const WORDS_PROMPTS: &[&str] = &[
    "列举出10个积极的词语：",
    "列举出10个积极的词语：",
    "列举出10个积极的词语",
    "列举出10个积极的词语。",
    "列举10个积极的词语",
    "列举十个积极的词语",
    "请列举出10个积极的词语。",
    "请列出10个积极的词语",
    "请列举十个积极的词语。",
    "说出10个积极的词语",
    "写出10个积极的词语",
    "写10个积极的词",
    "给我10个积极的词语",
    "10个积极的词语",
    "List ten positive words.",
    "List 10 positive words.",
    "Give me ten positive words",
    "Write ten positive words in Chinese.",
];

const WHO_ZH: &str = "我是llm-blocks的小模型，会解鸡兔同笼问题，会做简单的计算。";
const WHO_EN: &str =
    "I am the tiny model of llm-blocks. I solve chicken and rabbit problems and small sums.";
const HELLO_ZH: &str = "你好！我是llm-blocks的小模型。请问我一个鸡兔同笼问题吧。";
const HELLO_EN: &str =
    "Hello! I am the tiny model of llm-blocks. Ask me a chicken and rabbit problem.";
const DECLINE_ZH: &str = "对不起，我不会。我只会鸡兔同笼问题和简单的计算。";
const DECLINE_EN: &str =
    "Sorry, I cannot do that. I only know chicken and rabbit problems and small sums.";

const SMALL_TALK: &[(&[&str], &str)] = &[
    (
        &[
            "你是谁？",
            "你是谁",
            "你是谁呀？",
            "请问你是谁？",
            "你叫什么名字？",
            "你叫什么？",
            "你是什么模型？",
            "介绍一下你自己",
            "请介绍一下你自己。",
            "自我介绍一下",
            "你会什么？",
            "你会做什么？",
            "你能做什么？",
            "你是机器人吗？",
            "你是人吗？",
        ],
        WHO_ZH,
    ),
    (
        &[
            "Who are you?",
            "who are you",
            "What are you?",
            "What is your name?",
            "What can you do?",
            "what can you do",
            "Introduce yourself.",
            "Tell me about yourself.",
            "Are you a robot?",
            "Which model are you?",
        ],
        WHO_EN,
    ),
    (
        &[
            "你好",
            "你好！",
            "你好。",
            "您好",
            "您好！",
            "你好呀",
            "早上好",
            "晚上好",
        ],
        HELLO_ZH,
    ),
    (
        &[
            "Hello",
            "Hello!",
            "hello",
            "Hi",
            "hi",
            "Hi!",
            "Hello there",
            "Good morning",
            "Hey",
        ],
        HELLO_EN,
    ),
    (
        &["谢谢", "谢谢！", "谢谢你", "多谢", "非常感谢"],
        "不客气！",
    ),
    (
        &[
            "Thanks",
            "thanks",
            "Thank you",
            "Thank you!",
            "thank you very much",
        ],
        "You are welcome!",
    ),
    (&["再见", "再见！", "拜拜"], "再见！"),
    (&["Bye", "bye", "Goodbye!", "See you"], "Goodbye!"),
];

const ELSE_ZH: &[&str] = &[
    "今天天气怎么样？",
    "明天会下雨吗？",
    "讲个笑话",
    "讲一个故事",
    "给我讲个故事吧。",
    "现在几点了？",
    "今天星期几？",
    "你喜欢吃什么？",
    "中国的首都是哪里？",
    "世界上最高的山是什么？",
    "写一段代码",
    "用中文写一篇文章",
    "翻译成英文",
    "帮我翻译这句话",
    "唱一首歌",
    "什么是大语言模型？",
    "什么是人工智能？",
    "怎么学习数学？",
    "为什么天是蓝色的？",
    "太阳有多大？",
    "推荐一本书",
    "推荐一部电影",
    "怎么做饭？",
    "我今天很不高兴",
    "我想去北京",
    "你几岁了？",
    "猫和狗哪个好？",
    "月亮离我们有多远？",
];

const ELSE_EN: &[&str] = &[
    "How is the weather today?",
    "Will it rain tomorrow?",
    "Tell me a joke.",
    "Tell me a story",
    "What time is it?",
    "What day is today?",
    "What is the capital of France?",
    "Who is the president?",
    "Write some code in Python.",
    "Translate this into Chinese.",
    "Sing a song.",
    "What is a language model?",
    "What is artificial intelligence?",
    "How do I learn math?",
    "Why is the sky blue?",
    "How far is the moon?",
    "Recommend a book.",
    "Recommend a movie",
    "How do I cook rice?",
    "I feel sad today.",
    "How old are you?",
    "Do you like cats or dogs?",
    "Where do you live?",
    "Write an essay about the sea.",
];

/// A request for the poem, and the poem.
pub(crate) fn poem(draws: &mut Draws) -> Exchange {
    let prompt = if draws.chance(75) {
        draws.pick(POEM_PROMPTS)
    } else {
        draws.pick(POEM_PROMPTS_EN)
    };
    (marks(prompt, draws), POEM.to_owned())
}

/// A request for ten positive words, and ten words: in three of five cases those of the article.
pub(crate) fn words(draws: &mut Draws) -> Exchange {
    let prompt = draws.pick(WORDS_PROMPTS);
    let mut words = WORDS;
    if draws.chance(40) {
        draws.shuffle(&mut words);
    }
    let lines: Vec<String> = words[..10].iter().map(|word| format!("- {word}")).collect();
    (marks(prompt, draws), lines.join("\n"))
}

/// Greetings, thanks and questions about the model itself.
pub(crate) fn small_talk(draws: &mut Draws) -> Exchange {
    // Half of it is who-are-you, in both languages.
    let (prompts, answer) = if draws.chance(50) {
        draws.pick(&SMALL_TALK[..2])
    } else {
        draws.pick(&SMALL_TALK[2..])
    };
    (marks(draws.pick(prompts), draws), answer.to_owned())
}

/// A question that the model cannot answer, and its saying so.
pub(crate) fn decline(draws: &mut Draws) -> Exchange {
    if draws.chance(55) {
        (marks(draws.pick(ELSE_ZH), draws), DECLINE_ZH.to_owned())
    } else {
        (draws.pick(ELSE_EN).to_owned(), DECLINE_EN.to_owned())
    }
}

/// What the model knows about itself, as running text.
pub(crate) fn about_itself(draws: &mut Draws) -> &'static str {
    draws.pick(&[WHO_ZH, WHO_EN, HELLO_ZH, HELLO_EN, DECLINE_ZH, DECLINE_EN])
}

/// A system message.
pub(crate) fn system(language: Language, draws: &mut Draws) -> &'static str {
    match language {
        Language::Chinese => draws.pick(&[
            "你是一个有用的助手。",
            "你是llm-blocks的小模型。",
            "你是一位数学老师，请一步一步回答问题。",
        ]),
        Language::English => draws.pick(&[
            "You are a helpful assistant.",
            "You are the tiny model of llm-blocks.",
            "You are a math teacher. Answer step by step.",
        ]),
    }
}

/// The prompt, in half of the cases with ASCII punctuation.
fn marks(prompt: &str, draws: &mut Draws) -> String {
    if draws.chance(50) {
        ascii_marks(prompt)
    } else {
        prompt.to_owned()
    }
}
