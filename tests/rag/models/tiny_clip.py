"""A tiny CLIP of two towers in the layouts of the hub, random or taught a few colours and shapes."""

import json

SIDE = 16
WIDTH = 12
COLOURS = {"red": (220, 30, 30), "green": (30, 180, 60), "blue": (40, 60, 220)}
SHAPES = ("square", "circle", "stripes")


def drawing(colour, shape, jitter=None):
    """Return a picture of one shape on a light ground; `jitter` (dx, dy, shade) moves it."""
    from PIL import Image, ImageDraw

    dx, dy, shade = jitter or (0, 0, 0)
    image = Image.new("RGB", (32, 32), (235 - shade, 235 - shade, 235 - shade))
    draw = ImageDraw.Draw(image)
    if shape == "square":
        draw.rectangle((7 + dx, 7 + dy, 25 + dx, 25 + dy), fill=COLOURS[colour])
    elif shape == "circle":
        draw.ellipse((5 + dx, 5 + dy, 27 + dx, 27 + dy), outline=COLOURS[colour], width=4)
    else:
        for top in range(1 + dy, 32, 8):
            draw.rectangle((0, top, 31, top + 3), fill=COLOURS[colour])
    return image


def tokenizer(folder):
    """Save byte-level BPE without merges as CLIP's; return it: 514 entries, the last two control."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    names = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({name: row for row, name in enumerate(names)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    made = CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77
    )
    made.save_pretrained(folder)
    return made


def processor():
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    sizes = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
    return CLIPImageProcessorPil(**sizes)


def model(seed=0):
    import torch
    from transformers import CLIPConfig, CLIPModel

    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
             "num_attention_heads": 2, "projection_dim": WIDTH}  # fmt: skip
    ends = {"bos_token_id": 512, "eos_token_id": 513, "pad_token_id": 513}
    text = {**tower, **ends, "vocab_size": 514, "max_position_embeddings": 77}
    vision = {**tower, "image_size": SIDE, "patch_size": 4}
    torch.manual_seed(seed)
    return CLIPModel(
        CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH)
    ).eval()


def save(folder, clip=None, *, packed=True):
    """Write a checkpoint as `sentence-transformers/clip-ViT-B-32`, or plain as transformers does."""
    inside = folder / "0_CLIPModel" if packed else folder
    inside.mkdir(parents=True, exist_ok=True)
    (clip or model()).save_pretrained(inside)
    tokenizer(inside)
    processor().save_pretrained(inside)
    if packed:
        module = {
            "idx": 0,
            "name": "0",
            "path": "0_CLIPModel",
            "type": "sentence_transformers.models.CLIPModel",
        }
        (folder / "modules.json").write_text(json.dumps([module]))
        about = {"__version__": {"sentence_transformers": "2.0.0"}}
        (folder / "config_sentence_transformers.json").write_text(json.dumps(about))
    return folder


def taught(folder, steps=100, seed=0):
    """Train the tiny CLIP on drawings and their names by the contrastive loss; a few seconds."""
    import numpy as np
    import torch
    from torch.nn.functional import cross_entropy, normalize

    rng = np.random.default_rng(seed)
    clip, words, pixels = model(seed), tokenizer(folder), processor()
    names = [(colour, shape) for colour in COLOURS for shape in SHAPES]
    texts = words(
        [f"{colour} {shape}" for colour, shape in names], return_tensors="pt", padding=True
    )
    optimizer = torch.optim.AdamW(clip.parameters(), lr=1e-2)
    clip.train()
    for _ in range(steps):
        jitters = [(*rng.integers(-3, 4, 2).tolist(), int(rng.integers(0, 40))) for _ in names]
        drawn = [drawing(*name, jitter) for name, jitter in zip(names, jitters, strict=True)]
        seen = pixels(drawn, return_tensors="pt")["pixel_values"]
        of_texts = clip.get_text_features(**texts).pooler_output
        of_images = clip.get_image_features(pixel_values=seen).pooler_output
        logits = 10 * normalize(of_texts, dim=-1) @ normalize(of_images, dim=-1).T
        rows = torch.arange(len(names))
        loss = cross_entropy(logits, rows) + cross_entropy(logits.T, rows)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return clip.eval()
