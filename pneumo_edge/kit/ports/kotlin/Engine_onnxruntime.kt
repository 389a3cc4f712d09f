// Starter code for Android, not compiled or run when the kit was made. ONNX Runtime:
// implementation("com.microsoft.onnxruntime:onnxruntime-android:latest.release")

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import java.nio.FloatBuffer

/** @param shape Of the tensor, `tensor.shape` of vectors.json. */
class OnnxEngine(model: ByteArray, private val shape: LongArray) : Engine {
  private val environment = OrtEnvironment.getEnvironment()
  private val session = environment.createSession(model, OrtSession.SessionOptions())

  override fun run(tensor: DoubleArray): List<FloatArray> {
    val values = FloatBuffer.wrap(FloatArray(tensor.size) { tensor[it].toFloat() })
    OnnxTensor.createTensor(environment, values, shape).use { image ->
      session.run(mapOf(session.inputNames.first() to image)).use { found ->
        return found.map { (_, output) ->
          val buffer = (output as OnnxTensor).floatBuffer
          FloatArray(buffer.remaining()).also(buffer::get)
        }
      }
    }
  }
}
