// Starter code for Android, not compiled or run when the kit was made. LiteRT's CompiledModel API:
// implementation("com.google.ai.edge.litert:litert:2.3.0")

import android.content.res.AssetManager
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel

/** @param isFloat Whether `input.dtype` of the ModelSpec is float32; otherwise it is uint8 or int8. */
class LiteRtEngine(assets: AssetManager, model: String, private val isFloat: Boolean) : Engine {
  // The CPU: the test vectors were computed on one. Check the results of another accelerator with `kit check` first.
  private val compiled = CompiledModel.create(assets, model, CompiledModel.Options(Accelerator.CPU))
  private val inputs = compiled.createInputBuffers()
  private val outputs = compiled.createOutputBuffers()

  override fun run(tensor: DoubleArray): List<FloatArray> {
    if (isFloat) inputs[0].writeFloat(FloatArray(tensor.size) { tensor[it].toFloat() })
    else inputs[0].writeInt8(ByteArray(tensor.size) { tensor[it].toInt().toByte() })
    compiled.run(inputs, outputs)
    // Of a file with integer outputs (integer-only), read bytes and dequantize them.
    return outputs.map { it.readFloat() }
  }
}
