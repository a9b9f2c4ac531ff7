"""A plain JSON service with FastAPI: base64 PNG in, class name out. `uvicorn json_app:app`, the weights in `MODEL`."""

from __future__ import annotations

import base64
import io
import os

import numpy as np
import torch
from fastapi import FastAPI, File, Form, UploadFile
from PIL import Image

from ticketguard.models.small import convnet

MEAN, STD = (float(value) for value in os.environ["MOMENTS"].split(","))
app = FastAPI()
network = convnet()
network.load_state_dict(torch.load(os.environ["MODEL"], weights_only=True))
network.eval()


def classify(data: bytes) -> int:
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("L"), dtype=np.float32) / 255
    with torch.inference_mode():
        return int(network(torch.from_numpy((pixels - MEAN) / STD)[None, None]).argmax())


@app.post("/predict")
def predict(body: dict) -> dict:
    return {"predictions": [{"label": str(classify(base64.b64decode(body["instances"][0]["b64"])))}]}


@app.post("/upload")
async def upload(picture: UploadFile = File(), task: str = Form()) -> dict:  # noqa: B008
    return {"task": task, "class": classify(await picture.read())}
