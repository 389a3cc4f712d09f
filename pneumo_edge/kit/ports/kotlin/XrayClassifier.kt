// Starter code for Android. It follows the vendors' documentation and was not compiled or run when the kit was made: run
// it on the test vectors before you use it.
//
// Put the model file and spec.json into the app's assets. The engine is in the other file of this folder.

import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.graphics.Matrix
import androidx.exifinterface.media.ExifInterface
import java.io.ByteArrayInputStream
import kotlin.math.abs
import kotlin.math.exp
import kotlin.math.max
import kotlin.math.min
import kotlin.math.rint
import kotlin.math.sqrt
import kotlin.math.tanh
import org.json.JSONArray
import org.json.JSONObject

data class Answer(
  val probabilities: Map<String, Double>,
  val label: String,
  val predictionSet: List<String>?,
  val distance: Double?,
  val outOfDistribution: Boolean?,
) {
  val uncertain: Boolean? get() = predictionSet?.let { it != listOf(label) }
}

/** Runs the model: all outputs in their order, dequantized. The tensor's elements are numbers of the input's type. */
fun interface Engine {
  fun run(tensor: DoubleArray): List<FloatArray>
}

/** @param outputs The names of the model's outputs, `outputs` of vectors.json. */
class XrayClassifier(private val spec: JSONObject, private val outputs: List<String>, private val engine: Engine) {
  private val names = spec.getJSONArray("class_names").strings()
  private val input = spec.getJSONObject("input")
  private val width = input.getInt("width")
  private val height = input.getInt("height")

  fun classify(file: ByteArray): Answer {
    val bitmap = decode(file)
    val grey = resize(grey(bitmap), bitmap.width, bitmap.height, width, height)
    val values = engine.run(tensor(grey))
    return answer(outputs.zip(values).toMap())
  }

  private fun decode(file: ByteArray): Bitmap {
    // Without premultiplication the colours of transparent pixels stay as they are. Refuse images of more than 8 bits per
    // channel before this: Android decodes a 16-bit PNG without a word.
    val options = BitmapFactory.Options().apply { inPremultiplied = false; inScaled = false }
    val bitmap = requireNotNull(BitmapFactory.decodeByteArray(file, 0, file.size, options)) { "not an image" }
    require(min(bitmap.width, bitmap.height) >= 28) { "the image is ${bitmap.width}x${bitmap.height} pixels" }
    val exif = ExifInterface(ByteArrayInputStream(file))
    if (exif.rotationDegrees == 0 && !exif.isFlipped) return bitmap
    val turn = Matrix().apply {
      if (exif.isFlipped) postScale(-1f, 1f)
      postRotate(exif.rotationDegrees.toFloat())
    }
    return Bitmap.createBitmap(bitmap, 0, 0, bitmap.width, bitmap.height, turn, false)
  }

  private fun grey(bitmap: Bitmap): IntArray {
    val pixels = IntArray(bitmap.width * bitmap.height)
    bitmap.getPixels(pixels, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
    return IntArray(pixels.size) {
      val (red, green, blue) = Triple(pixels[it] shr 16 and 255, pixels[it] shr 8 and 255, pixels[it] and 255)
      (19595 * red + 38470 * green + 7471 * blue + 32768) shr 16
    }
  }

  private fun resize(grey: IntArray, width: Int, height: Int, newWidth: Int, newHeight: Int): IntArray {
    val across = taps(width, newWidth)
    val narrow = IntArray(newWidth * height) { weigh(across[it % newWidth], grey, it / newWidth * width, 1) }
    val down = taps(height, newHeight)
    return IntArray(newWidth * newHeight) { weigh(down[it / newWidth], narrow, it % newWidth, newWidth) }
  }

  private class Tap(val first: Int, val weights: IntArray)

  private fun weigh(tap: Tap, pixels: IntArray, from: Int, step: Int): Int {
    var sum = 1 shl 21
    tap.weights.forEachIndexed { k, weight -> sum += weight * pixels[from + (tap.first + k) * step] }
    return (sum shr 22).coerceIn(0, 255)
  }

  private fun taps(size: Int, result: Int): List<Tap> {
    val scale = size.toDouble() / result
    val support = max(scale, 1.0)
    return List(result) { i ->
      val centre = (i + 0.5) * scale
      val first = max((centre - support + 0.5).toInt(), 0)
      val last = min((centre + support + 0.5).toInt(), size)
      val shares = (first until last).map { max(1 - abs((it - centre + 0.5) / support), 0.0) }
      Tap(first, shares.map { (it / shares.sum() * (1 shl 22) + 0.5).toInt() }.toIntArray())
    }
  }

  private fun tensor(grey: IntArray): DoubleArray {
    val channels = input.getInt("channels")
    val tables = List(channels) { channel -> DoubleArray(256) { element(it, channel) } }
    val first = input.getString("layout") == "nchw"
    return DoubleArray(grey.size * channels) {
      if (first) tables[it / grey.size][grey[it % grey.size]] else tables[it % channels][grey[it / channels]]
    }
  }

  private fun element(pixel: Int, channel: Int): Double {
    val scaling = input.optJSONObject("scaling") ?: return pixel.toDouble()
    val value = pixel * scaling.getJSONArray("scale").getDouble(channel) +
      scaling.getJSONArray("offset").getDouble(channel)
    if (scaling.isNull("step")) return value
    val (low, high) = if (input.getString("dtype") == "int8") -128.0 to 127.0 else 0.0 to 255.0
    return (rint(value / scaling.getDouble("step")) + scaling.getInt("zero_point")).coerceIn(low, high)
  }

  fun answer(outputs: Map<String, FloatArray>): Answer {
    val values = names.zip(probabilities(outputs.getValue("probability").map { it.toDouble() })).toMap()
    val decision = spec.getJSONObject("decision")
    val positive = if (decision.isNull("positive_class")) null else decision.getString("positive_class")
    val isPositive = positive != null && values.getValue(positive) >= decision.getDouble("threshold")
    val label = if (isPositive) positive!! else names.filter { it != positive }.maxBy { values.getValue(it) }
    val check = spec.optJSONObject("input_check")
    val distance = check?.let { distance(it, outputs.getValue("components")) }
    val isFar = if (check == null || distance == null) null else distance > check.getDouble("limit")
    return Answer(values, label, predictionSet(values, positive), distance, isFar)
  }

  private fun probabilities(values: List<Double>): List<Double> = when (spec.optString("scores", "probabilities")) {
    "logits" -> values.map { exp(it - values.max()) }.let { powers -> powers.map { it / powers.sum() } }
    "logit" -> (0.5 * (1 + tanh(values[0] / 2))).let { listOf(1 - it, it) }
    "probability" -> listOf(1 - values[0], values[0])
    else -> values
  }

  private fun predictionSet(values: Map<String, Double>, positive: String?): List<String>? {
    val bounds = spec.optJSONObject("conformal") ?: return null
    bounds.optJSONObject("least")?.let { least -> return names.filter { values.getValue(it) >= least.getDouble(it) } }
    val value = values.getValue(positive!!)
    return names.filter {
      if (it == positive) value >= bounds.getDouble("least_positive") else value <= bounds.getDouble("most_negative")
    }
  }

  private fun distance(check: JSONObject, components: FloatArray): Double {
    val (mean, scale) = check.getJSONArray("mean") to check.getJSONArray("scale")
    val parts = check.getJSONArray("parts")
    var at = 0
    return (0 until parts.length()).maxOf { part ->
      val end = at + parts.getInt(part)
      val squares = (at until end).sumOf { ((components[it] - mean.getDouble(it)) / scale.getDouble(it)).let { z -> z * z } }
      at = end
      sqrt(squares / parts.getInt(part))
    }
  }

  private fun JSONArray.strings() = List(length()) { getString(it) }
}
