//! Every crate can be had from here, and they all speak of the same arrays.

use llm_blocks::ndarray::{Array4, array};
use llm_blocks::{
    attention, chat_format, decoder, ffn, kvcache, numerics, posenc, sampling, tiny_model, training,
};

#[test]
fn every_crate_is_reachable() {
    // One call each, with a result that is known by hand.
    let product = numerics::gemm::matmul(&array![[2.0]], &array![[3.0]]).unwrap();
    assert_eq!(product, array![[6.0]]);

    let config = posenc::rope::RopeConfig::new(2, posenc::rope::RopePairing::HalfSplit);
    assert_eq!(posenc::rope::inv_freq(&config).unwrap(), array![1.0]);

    let x = Array4::<f32>::ones((1, 2, 1, 2));
    let config = attention::AttentionConfig::new(attention::Mask::Full);
    assert_eq!(attention::flash::forward(&x, &x, &x, &config).unwrap(), x);

    assert_eq!(ffn::silu::value(0.0_f32), 0.0);
    assert_eq!(
        kvcache::calculator::bytes_per_token(2, 3, 5, 4).unwrap(),
        240
    );
    assert_eq!(sampling::greedy::argmax(&array![1.0_f32, 2.0]).unwrap(), 1);
    assert_eq!(chat_format::Message::user("x").role.name(), "user");
    let schedule = training::schedule::Schedule::Constant;
    assert_eq!(schedule.learning_rate(0.5, 3), 0.5);
    assert_eq!(decoder::DecoderConfig::glm(5, 8, 1, 2).head_dim, 4);
    let tokenizer = tiny_model::Tokenizer::embedded();
    assert_eq!(tokenizer.control_id("[gMASK]"), Some(1));
}
