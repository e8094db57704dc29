"""The programs that run on the graphics card."""

VERTEX = """
#version 330
uniform Bones { vec4 rows[207]; };  // three rows of four numbers for each of 69 joints
uniform mat4 clip;
uniform mat4 from_key;  // to the map of what the key light sees
uniform mat4 from_sky;
in vec3 position;
in vec3 normal;
in vec2 texcoord;
in vec4 weights;
in uvec4 joints;
in vec4 region;
in vec2 chart;
out vec3 place;
out vec3 outward;
out vec2 uv;
out vec4 part;
out vec3 cloth;
out vec2 on_chart;
out vec3 in_key;
out vec3 in_sky;

void main() {
    vec4 a = vec4(0.0), b = vec4(0.0), c = vec4(0.0);
    for (int k = 0; k < 4; k++) {
        int row = int(joints[k]) * 3;
        a += weights[k] * rows[row];
        b += weights[k] * rows[row + 1];
        c += weights[k] * rows[row + 2];
    }
    float total = 1.0 / (weights.x + weights.y + weights.z + weights.w);  // bytes do not sum to one exactly
    vec4 bind = vec4(position, 1.0);
    place = vec3(dot(a, bind), dot(b, bind), dot(c, bind)) * total;
    outward = vec3(dot(a.xyz, normal), dot(b.xyz, normal), dot(c.xyz, normal));
    uv = texcoord;
    part = region;
    cloth = position;
    on_chart = chart;
    vec4 off = vec4(place + 0.006 * normalize(outward), 1.0);  // else the skin shadows itself
    in_key = (from_key * off).xyz;
    in_sky = (from_sky * off).xyz;
    gl_Position = clip * vec4(place, 1.0);
}
"""

# Light is worked out in "gamma 2": squares and roots are near enough to sRGB, and far cheaper than powers.
_LIGHT = """
#version 330
uniform sampler2D picture;
uniform vec3 eye_m;
uniform vec3 key;
uniform vec3 key_colour;
uniform mat4 around[3];     // Appearance.around of red, green, blue, turned to the model's axes
uniform float softness;
uniform sampler2DShadow key_map;
uniform sampler2DShadow sky_map;
in vec3 place;
in vec3 outward;
in vec2 uv;
in vec4 part;
in vec3 in_key;
in vec3 in_sky;
layout(location = 0) out vec4 colour;
layout(location = 1) out uint label;
layout(location = 2) out uvec2 surface;  // one more than the chart: 0 is nobody

const vec2 TAPS[6] = vec2[](vec2(-0.33, 0.05), vec2(0.34, -0.22), vec2(-0.25, -0.7), vec2(-0.8, 0.5), vec2(0.85, 0.3),
                            vec2(0.1, 0.85));

float seen(sampler2DShadow map, vec3 at, float reach) {  // how much of a soft light is not covered
    float sum = 0.0;
    for (int k = 0; k < 6; k++) sum += texture(map, vec3(at.xy + reach * TAPS[k], at.z));
    return sum / 6.0;
}

vec3 from_around(vec3 way) {  // light of the room from one direction
    vec4 at = vec4(way, 1.0);
    return max(vec3(dot(at, around[0] * at), dot(at, around[1] * at), dot(at, around[2] * at)), 0.0);
}
"""

FRAGMENT = (
    _LIGHT
    + """
uniform sampler2D labels;
uniform float shine;
in vec3 cloth;
in vec2 on_chart;
uniform vec4 weave[6];  // Appearance.patterns
uniform sampler2D print;    // prints.paint
uniform sampler2D threads;  // cloth.weave
uniform vec3 trunk;         // of the trunk in the bind pose: top, z of its axis, half its depth
uniform float dyed;          // mean luminance of upper clothes
uniform vec3 sleeve;        // x where it begins, y and z of its axis

float band(float at) {  // 1 on every second stripe, soft by a pixel
    float soft = min(fwidth(at), 0.25);
    return 1.0 - smoothstep(0.25 - soft, 0.25 + soft, abs(fract(at) - 0.5));
}

float printed(vec3 way, vec3 second, float kind) {
    vec2 at = vec2(dot(cloth, way), dot(cloth, second));
    if (kind < 1.5) return band(at.x);
    if (kind < 2.5) return 0.5 * (band(at.x) + band(at.y));
    if (kind < 3.5) {  // a flower in every cell, moved and turned by chance
        vec2 cell = floor(at);
        vec2 chance = fract(sin(vec2(dot(cell, vec2(12.9, 78.2)), dot(cell, vec2(39.3, 11.1)))) * 43758.5);
        vec2 from = at - cell - 0.5 - 0.3 * (chance - 0.5);
        float petals = 0.30 + 0.09 * cos(5.0 * atan(from.y, from.x) + 6.28 * chance.x);
        float soft = max(fwidth(at.x) + fwidth(at.y), 0.02);
        return 1.0 - smoothstep(petals - soft, petals + soft, length(from));
    }
    float waves = sin(6.28 * at.x) + sin(6.28 * at.y + 1.3 * sin(4.1 * at.x)) + sin(9.0 * (at.x - at.y));
    return smoothstep(-0.1, 0.1, waves);
}

vec2 on_cloth() {  // the place on prints' square metre
    if (abs(cloth.x) < sleeve.x)
        return vec2(0.5 + 0.16 * atan(cloth.x / 0.16, (cloth.z - trunk.y) / trunk.z), trunk.x - cloth.y);
    float around = 0.05 * atan(cloth.z - sleeve.z, cloth.y - sleeve.y);
    float along = abs(cloth.x) - sleeve.x;
    return vec2(cloth.x > 0.0 ? along : 1.0 - along, 0.84 + around);
}

float catchlight(vec3 normal, vec3 to_eye) {  // the lamp in an eye, whose cornea is steeper than its ball
    vec3 steep = normalize(normal + 0.7 * (normal - dot(normal, to_eye) * to_eye));
    return smoothstep(0.975, 0.992, dot(steep, normalize(key + to_eye)));
}

vec3 embossed(vec3 normal, float height_m) {  // Mikkelsen, Bump mapping unparametrized surfaces, 2010
    vec3 right = dFdx(place), up = dFdy(place);
    vec3 first = cross(up, normal), second = cross(normal, right);
    float size = dot(right, first);
    vec3 slope = sign(size) * (dFdx(height_m) * first + dFdy(height_m) * second);
    return normalize(abs(size) * normal - slope);
}

void main() {
    vec4 texel = texture(picture, uv);
    if (texel.a < 0.5) discard;
    surface = uvec2(clamp(on_chart, 0.0, 1.0) * 65534.0 + 1.5);
    vec3 base = texel.rgb * texel.rgb;
    vec3 normal = normalize(outward);
    vec3 to_eye = normalize(eye_m - place);
    if (dot(normal, to_eye) < -0.2 && !gl_FrontFacing) normal = -normal;  // inside of sleeves and hair
    float kind = part.w * 5.0;  // Rig.kinds
    float skin = 0.0, wet = 0.0;
    if (kind < 0.5) {
        // The filter would make up parts that lie between two others, and one read is all this costs.
        float painted = texelFetch(labels, ivec2(fract(uv) * vec2(textureSize(labels, 0))), 0).r * 255.0;
        bool hand = max(part.y, part.z) > 0.5;
        skin = hand || abs(painted - 1.0) < 0.5 ? 1.0 : 0.0;
        label = hand ? (part.y > part.z ? 4u : 5u)
              : skin > 0.5 ? (part.x > 0.5 ? 2u : 3u)
              : painted < 0.5 ? 1u : painted < 2.5 ? 6u : 7u;
    } else if (kind > 2.5) {
        label = 1u;
    } else {
        wet = kind < 1.5 ? 1.0 : 0.3;
        label = 2u;
    }
    if (label >= 6u) {
        int row = label == 6u ? 0 : 3;
        float strength = weave[row + 1].w;
        if (strength > 0.0) {
            // The cloth's own light and dark stay, so folds survive.
            float folds = clamp(dot(base, vec3(0.3, 0.59, 0.11)) / weave[row + 2].w, 0.0, 1.8);
            float amount = strength * printed(weave[row].xyz, weave[row + 2].xyz, weave[row].w);
            base = mix(base, weave[row + 1].rgb * folds, amount);
        }
    }
    vec2 at = label >= 6u ? on_cloth() : 2.0 * uv;
    vec3 thread = texture(threads, at).rgb;
    float height_m = (label == 1u ? 0.0015 : 0.0005) * dot(texel.rgb, vec3(0.3, 0.59, 0.11));
    if (label >= 6u) {
        if (label == 6u) {
            vec4 ink = texture(print, at);
            float folds = clamp(dot(texel.rgb * texel.rgb, vec3(0.3, 0.59, 0.11)) / dyed, 0.4, 1.6);
            base = mix(base, ink.rgb * ink.rgb * folds, ink.a);
        }
        base *= thread.r;
        height_m += 0.001 * thread.g;
    } else if (wet < 0.1) {
        base *= 1.0 + 0.03 * thread.b;
        height_m += 0.00004 * thread.b;
    }
    normal = embossed(normal, height_m);
    float facing = dot(normal, key);
    float side = max(dot(normal, to_eye), 0.0);
    float reach = 0.010 * softness;
    float by_key = seen(key_map, in_key, reach);
    float by_sky = seen(sky_map, in_sky, 0.05);
    // Light goes deeper into skin, red deepest.
    vec3 wrap = min(softness, 1.5) * mix(vec3(0.08), vec3(0.30, 0.18, 0.13), skin);
    vec3 lit = key_colour * clamp((facing + wrap) / (1.0 + wrap), 0.0, 1.0) * by_key * (1.0 - 0.25 * min(wet, 1.0));
    vec3 ambient = from_around(normal);
    // Light between two parts of a person has their colours: covered skin gets red, not black.
    vec3 covered = mix(vec3(0.35), vec3(0.55, 0.40, 0.35), skin);
    ambient *= mix(covered, vec3(1.0), by_sky) * (1.0 - 0.3 * min(wet, 1.0));  // lids and lips shade what is wet
    vec3 light = base * (lit + ambient);
    float half_way = max(dot(normal, normalize(key + to_eye)), 0.0);
    float wide = half_way * half_way; wide *= wide; wide *= wide;
    float narrow = wide * wide; narrow *= narrow;
    float rim = 1.0 - side; rim *= rim; rim *= rim;
    float gloss = skin * shine * (0.035 * wide + 0.10 * narrow) + wet * 0.5 * narrow * narrow;
    gloss += (label == 1u ? 0.03 : 0.006) * wide;
    light += key_colour * by_key * max(facing, 0.0) * gloss;
    if (kind > 0.5 && kind < 1.5) light += key_colour * 0.9 * catchlight(normalize(outward), to_eye);
    light += ambient * rim * (0.02 + 0.06 * skin * shine + 0.03 * float(label == 1u));
    colour = vec4(sqrt(light), 1.0);
}
"""
)

# What a person wears: frames, jewellery and watches, and glass, which is laid over what is behind it. Bodies would pay
# for it in one program: a processor runs all branches for every pixel.
WORN = (
    _LIGHT
    + """
vec3 solid(vec3 base, float metal, vec3 mirrored, vec3 normal) {
    float by_key = seen(key_map, in_key, 0.010 * softness), by_sky = mix(0.5, 1.0, seen(sky_map, in_sky, 0.05));
    vec3 light = key_colour * max(dot(normal, key), 0.0) * by_key + from_around(normal) * by_sky;
    vec3 lamp = key_colour * by_key * 3.0 * pow(max(dot(mirrored, key), 0.0), 24.0);
    return base * light * (1.0 - metal) + mix(vec3(0.04), base, metal) * (from_around(mirrored) * 1.1 * by_sky + lamp);
}

vec4 glass(vec3 base, float dark, vec3 mirrored, float side) {
    float share = 0.03 + 0.6 * pow(1.0 - side, 4.0);
    vec3 light = from_around(mirrored) * share + key_colour * (0.35 * smoothstep(0.90, 0.97, dot(mirrored, key)));
    float over = dot(light, vec3(0.3, 0.59, 0.11));
    over /= over + 0.15;
    float tint = dark * (1.0 - over);
    return vec4(over * sqrt(light + 0.15) + tint * sqrt(base), over + tint);
}

void main() {
    vec4 texel = texture(picture, uv);
    vec3 base = texel.rgb * texel.rgb;
    float metal = 2.0 * texel.a - 1.0;
    vec3 normal = normalize(outward), to_eye = normalize(eye_m - place);
    vec3 mirrored = reflect(-to_eye, normal);
    label = part.x > 0.5 ? 2u : max(part.y, part.z) > 0.5 ? (part.y > part.z ? 4u : 5u) : 3u;
    surface = uvec2(0u);  // it has no place of its own
    bool pane = part.w > 0.9;
    colour = pane ? glass(base, metal, mirrored, abs(dot(normal, to_eye)))
                  : vec4(sqrt(solid(base, metal, mirrored, normal)), 1.0);
}
"""
)

FIND = """
#version 330
layout(location = 0) out uint number;

void main() {
    number = uint(gl_PrimitiveID) + 1u;
}
"""

DEPTH = """
#version 330
uniform sampler2D picture;
in vec2 uv;

void main() {
    if (texture(picture, uv).a < 0.5) discard;
}
"""
