"""A custom MLServer runtime: a digits model behind the Open Inference Protocol, as somebody would serve it."""

from __future__ import annotations

import torch
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from ticketguard.models.small import convnet


class DigitsRuntime(MLModel):
    async def load(self) -> bool:
        torch.set_num_threads(1)
        self.network = convnet()
        self.network.load_state_dict(torch.load(self.settings.parameters.uri, weights_only=True))
        self.network.eval()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        images = NumpyCodec.decode_input(payload.inputs[0])
        with torch.inference_mode():
            scores = self.network(torch.from_numpy(images.copy())).numpy()
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("scores", scores)])
