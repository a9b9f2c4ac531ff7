"""What ONNX numbers: the fields of its messages and the types of its tensors, as far as they are read.

Source: onnx.proto3 of ONNX 1.x.
"""

from __future__ import annotations


class Model:
    """Fields of a ModelProto."""

    GRAPH, TRAINING, FUNCTION = 7, 20, 25


class Training:
    """Fields of a TrainingInfoProto: the graphs that start and that do a step of training."""

    INITIALIZATION, ALGORITHM = 1, 2


class Function:
    """Fields of a FunctionProto; an attribute here is one with a default value."""

    NODE, ATTRIBUTE = 7, 11


class Graph:
    """Fields of a GraphProto."""

    NODE, INITIALIZER, OUTPUT, SPARSE = 1, 5, 12, 15


class Value:
    """Fields of a ValueInfoProto."""

    NAME = 1


class Node:
    """Fields of a NodeProto."""

    INPUT, OUTPUT, OPERATION, ATTRIBUTE = 1, 2, 4, 5


class Attribute:
    """Fields of an AttributeProto."""

    NAME, INTEGER, TENSOR, GRAPH, TENSORS, GRAPHS, SPARSE, SPARSES = 1, 3, 5, 6, 10, 11, 22, 23


class Sparse:
    """Fields of a SparseTensorProto."""

    VALUES, DIMS = 1, 3


class Tensor:
    """Fields of a TensorProto."""

    DIMS, DATA_TYPE, FLOATS, INT32S, INT64S = 1, 2, 4, 5, 7
    NAME, RAW, DOUBLES, EXTERNAL, LOCATION = 8, 9, 10, 13, 14


class DataType:
    """Types of a tensor (TensorProto.DataType)."""

    FLOAT, UINT8, INT8, INT16, INT32, INT64, BOOL, FLOAT16, DOUBLE, BFLOAT16 = 1, 2, 3, 5, 6, 7, 9, 10, 11, 16
