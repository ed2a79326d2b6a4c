//! What to do about an operator that is not covered.

/// The nearest cure.
pub(super) fn of(op: &str) -> &'static str {
    match op {
        "QuantizeLinear"
        | "DequantizeLinear"
        | "QLinearConv"
        | "QLinearMatMul"
        | "ConvInteger"
        | "MatMulInteger"
        | "DynamicQuantizeLinear" => "import the model as it was before it was quantised, and let Fieldmark quantise it",
        "If" | "Loop" | "Scan" => {
            "export in inference mode with fixed height and width (torch: `model.eval()`), so that nothing is decided at run time"
        }
        "GroupNormalization" | "InstanceNormalization" | "LpNormalization" | "LRN" => {
            "choose a variant of the model with batch or layer norms"
        }
        "ConvTranspose" | "Upsample" | "GridSample" | "NonMaxSuppression" | "TopK" => {
            "export the classifier or backbone alone, without what comes before or behind it"
        }
        "LSTM" | "GRU" | "RNN" | "Einsum" => "export without it, or rewrite it as MatMul, Reshape and Transpose",
        "Erf" | "Pow" | "Sqrt" | "Exp" | "Log" => {
            "export with a later opset, in which the whole function is one operator (LayerNormalization: 17, Gelu: 20)"
        }
        "Reshape" | "Transpose" | "Slice" | "Gather" | "Split" | "Concat" | "Expand" | "Shape" => {
            "export with fixed height and width and fold constants (torch: `do_constant_folding=True`, or run onnxsim); docs/onnx.md says which uses are covered"
        }
        _ => "docs/onnx.md has the operators and settings that are covered; export without it, or ask for it",
    }
}
