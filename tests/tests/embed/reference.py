"""The vectors of all-MiniLM-L6-v2 for some texts, by numpy in 64-bit floats from the model's own files."""
import json, math, sys
import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

folder = sys.argv[1]
w = {k: v.astype(np.float64) for k, v in load_file(folder + "/model.safetensors").items() if v.dtype.kind == "f"}
c = json.load(open(folder + "/config.json"))
t = Tokenizer.from_file(folder + "/tokenizer.json"); t.no_padding(); t.enable_truncation(256)
H, heads, eps = c["hidden_size"], c["num_attention_heads"], c["layer_norm_eps"]
erf = np.vectorize(math.erf)
def norm(x, p):
    m = x.mean(-1, keepdims=True); v = ((x - m) ** 2).mean(-1, keepdims=True)
    return (x - m) / np.sqrt(v + eps) * w[p + ".weight"] + w[p + ".bias"]
def lin(x, p): return x @ w[p + ".weight"].T + w[p + ".bias"]
def embed(text):
    ids = t.encode(text).ids
    x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][: len(ids)] + w["embeddings.token_type_embeddings.weight"][0]
    x = norm(x, "embeddings.LayerNorm")
    for l in range(c["num_hidden_layers"]):
        p = f"encoder.layer.{l}."
        q, k, v = (lin(x, p + "attention.self." + n).reshape(len(ids), heads, -1).transpose(1, 0, 2) for n in ("query", "key", "value"))
        s = q @ k.transpose(0, 2, 1) / math.sqrt(H // heads)
        s = np.exp(s - s.max(-1, keepdims=True)); s /= s.sum(-1, keepdims=True)
        a = (s @ v).transpose(1, 0, 2).reshape(len(ids), H)
        x = norm(lin(a, p + "attention.output.dense") + x, p + "attention.output.LayerNorm")
        h = lin(x, p + "intermediate.dense"); h = h * 0.5 * (1 + erf(h / math.sqrt(2)))
        x = norm(lin(h, p + "output.dense") + x, p + "output.LayerNorm")
    m = x.mean(0)
    return len(ids), m / np.linalg.norm(m)
texts = json.load(open(sys.argv[2]))
out = []
for text in texts:
    n, v = embed(text)
    out.append({"text": text, "tokens": n, "embedding": [round(float(f), 6) for f in v]})
    print(n, repr(text[:40]), v[:4], file=sys.stderr)
json.dump(out, open(sys.argv[3], "w"), ensure_ascii=False)
