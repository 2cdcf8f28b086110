"""Makes a model that sees pictures: a Llava of random weights, the same each time.

python tiny_vision.py TOKENIZER FOLDER
"""

import sys

import torch
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

CHAT = """{% for m in messages %}{{ m.role }}: {% for part in m.content %}
{% if part.type == "image" %}<image>{% else %}{{ part.text }}{% endif %}
{% endfor %}{% endfor %}assistant:"""

tokenizer_file, folder = sys.argv[1:]
tokenizer = PreTrainedTokenizerFast(
    tokenizer_file=tokenizer_file,
    eos_token="[SEP]",
    pad_token="[PAD]",
    unk_token="[UNK]",
    model_input_names=["input_ids", "attention_mask"],
    additional_special_tokens=["<image>"],
)
tokenizer.image_token = "<image>"
small = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
text = LlamaConfig(vocab_size=len(tokenizer), num_hidden_layers=1, **small, **ends)
vision = CLIPVisionConfig(num_hidden_layers=2, image_size=32, patch_size=16, **small)
index = tokenizer.convert_tokens_to_ids("<image>")
torch.manual_seed(0)
model = LlavaForConditionalGeneration(LlavaConfig(vision, text, image_token_index=index))
model.generation_config.update(**ends)
model.save_pretrained(folder)
LlavaProcessor(
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
    tokenizer,
    patch_size=16,
    vision_feature_select_strategy="default",
    chat_template=CHAT,
    num_additional_image_tokens=1,
).save_pretrained(folder)
