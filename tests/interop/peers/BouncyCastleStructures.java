import java.io.ByteArrayOutputStream;
import java.io.OutputStream;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.PrivateKey;
import java.security.PublicKey;
import java.security.cert.X509Certificate;
import java.security.interfaces.ECPublicKey;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import javax.crypto.Cipher;
import javax.crypto.CipherOutputStream;
import javax.crypto.SecretKey;
import javax.crypto.spec.SecretKeySpec;
import org.bouncycastle.asn1.ASN1ObjectIdentifier;
import org.bouncycastle.asn1.ASN1OctetString;
import org.bouncycastle.asn1.DEROctetString;
import org.bouncycastle.asn1.cms.AttributeTable;
import org.bouncycastle.asn1.cms.CMSAttributes;
import org.bouncycastle.asn1.cms.ContentInfo;
import org.bouncycastle.asn1.x509.AlgorithmIdentifier;
import org.bouncycastle.cert.X509CertificateHolder;
import org.bouncycastle.cert.jcajce.JcaCertStore;
import org.bouncycastle.cert.jcajce.JcaX509CertificateHolder;
import org.bouncycastle.cms.CMSAbsentContent;
import org.bouncycastle.cms.CMSAlgorithm;
import org.bouncycastle.cms.CMSAuthEnvelopedDataGenerator;
import org.bouncycastle.cms.CMSAuthenticatedData;
import org.bouncycastle.cms.CMSAuthenticatedDataGenerator;
import org.bouncycastle.cms.CMSCompressedData;
import org.bouncycastle.cms.CMSCompressedDataGenerator;
import org.bouncycastle.cms.CMSDigestedData;
import org.bouncycastle.cms.CMSEncryptedData;
import org.bouncycastle.cms.CMSEncryptedDataGenerator;
import org.bouncycastle.cms.CMSEnvelopedData;
import org.bouncycastle.cms.CMSEnvelopedDataGenerator;
import org.bouncycastle.cms.CMSProcessableByteArray;
import org.bouncycastle.cms.CMSSignedData;
import org.bouncycastle.cms.CMSSignedDataGenerator;
import org.bouncycastle.cms.PasswordRecipient;
import org.bouncycastle.cms.Recipient;
import org.bouncycastle.cms.RecipientInfoGenerator;
import org.bouncycastle.cms.RecipientInformation;
import org.bouncycastle.cms.SignerInformation;
import org.bouncycastle.cms.SignerInformationStore;
import org.bouncycastle.cms.jcajce.JceCMSContentEncryptorBuilder;
import org.bouncycastle.cms.jcajce.JceCMSMacCalculatorBuilder;
import org.bouncycastle.cms.jcajce.JceKEKAuthenticatedRecipient;
import org.bouncycastle.cms.jcajce.JceKEKEnvelopedRecipient;
import org.bouncycastle.cms.jcajce.JceKEKRecipientInfoGenerator;
import org.bouncycastle.cms.jcajce.JceKeyAgreeEnvelopedRecipient;
import org.bouncycastle.cms.jcajce.JceKeyAgreeRecipientInfoGenerator;
import org.bouncycastle.cms.jcajce.JcePasswordAuthenticatedRecipient;
import org.bouncycastle.cms.jcajce.JcePasswordEnvelopedRecipient;
import org.bouncycastle.cms.jcajce.JcePasswordRecipientInfoGenerator;
import org.bouncycastle.cms.jcajce.ZlibCompressor;
import org.bouncycastle.cms.jcajce.ZlibExpanderProvider;
import org.bouncycastle.operator.GenericKey;
import org.bouncycastle.operator.InputDecryptorProvider;
import org.bouncycastle.operator.MacCalculator;
import org.bouncycastle.operator.OutputAEADEncryptor;
import org.bouncycastle.operator.OutputEncryptor;
import org.bouncycastle.operator.jcajce.JceInputDecryptorProviderBuilder;
import org.bouncycastle.util.CollectionStore;

/**
 * The requests of Bouncy Castle's other structures. The last two fields are always input and output.
 *
 * <pre>
 * compress           input output
 * decompress         input output
 * check-digest       input output
 * encrypt-with-key   cipherOid keyHex input output
 * decrypt-with-key   keyHex input output
 * seal               recipient cipherOid input output
 * open               recipient input output
 * authenticate       recipient macOid digestOid|- input output
 * check-mac          recipient input output
 * certificates       certificate... - output
 * list-certificates  input output
 * countersign        signer... input output
 * </pre>
 *
 * A recipient is "password TEXT PRF", "key AES|DESede ID HEX", the identifier in hexadecimal, too, or
 * "agree SCHEME_OID WRAP_OID CERTIFICATE|KEY"; its words are separated by spaces.
 */
final class BouncyCastleStructures {
    private static final String PROVIDER = BouncyCastle.PROVIDER;
    private static final int ITERATIONS = 2000;

    private BouncyCastleStructures() {}

    static String answer(String[] request) throws Exception {
        byte[] input = BouncyCastle.read(request[request.length - 2]);
        BouncyCastle.write(request[request.length - 1], answer(request, input));
        return "";
    }

    private static byte[] answer(String[] request, byte[] input) throws Exception {
        return switch (request[0]) {
            case "compress" -> new CMSCompressedDataGenerator()
                .generate(new CMSProcessableByteArray(input), new ZlibCompressor()).getEncoded();
            case "decompress" -> new CMSCompressedData(input).getContent(new ZlibExpanderProvider());
            case "check-digest" -> checkDigest(input);
            case "encrypt-with-key" -> encryptWithKey(request, input);
            case "decrypt-with-key" -> decryptWithKey(request, input);
            case "seal" -> seal(generatorFor(request[1].split(" ")), request[2], input);
            case "open" -> open(request[1].split(" "), input);
            case "authenticate" -> authenticate(request, input);
            case "check-mac" -> checkMac(request[1].split(" "), input);
            case "certificates" -> certificates(Arrays.copyOfRange(request, 1, request.length - 2));
            case "list-certificates" -> listCertificates(input);
            case "countersign" -> countersign(Arrays.copyOfRange(request, 1, request.length - 2), input);
            default -> throw new IllegalArgumentException("no such request: " + request[0]);
        };
    }

    private static byte[] checkDigest(byte[] message) throws Exception {
        CMSDigestedData data = new CMSDigestedData(message);
        if (!data.verify(BouncyCastle.digests())) {
            throw new SecurityException("the digest is wrong");
        }
        return (byte[]) data.getDigestedContent().getContent();
    }

    private static byte[] encryptWithKey(String[] request, byte[] content) throws Exception {
        byte[] key = HexFormat.of().parseHex(request[2]);
        Cipher cipher = Cipher.getInstance(request[1], PROVIDER);
        cipher.init(Cipher.ENCRYPT_MODE, new SecretKeySpec(key, "AES"));
        AlgorithmIdentifier algorithm = new AlgorithmIdentifier(
            new ASN1ObjectIdentifier(request[1]), new DEROctetString(cipher.getIV()));
        OutputEncryptor encryptor = new OutputEncryptor() { // the library's own takes no key from outside
            @Override
            public AlgorithmIdentifier getAlgorithmIdentifier() {
                return algorithm;
            }

            @Override
            public OutputStream getOutputStream(OutputStream encrypted) {
                return new CipherOutputStream(encrypted, cipher);
            }

            @Override
            public GenericKey getKey() {
                return new GenericKey(algorithm, key);
            }
        };
        return new CMSEncryptedDataGenerator().generate(new CMSProcessableByteArray(content), encryptor)
            .toASN1Structure().getEncoded("DER");
    }

    private static byte[] decryptWithKey(String[] request, byte[] message) throws Exception {
        InputDecryptorProvider decryptor = new JceInputDecryptorProviderBuilder()
            .setProvider(PROVIDER).build(HexFormat.of().parseHex(request[1]));
        return new CMSEncryptedData(ContentInfo.getInstance(message)).getContent(decryptor);
    }

    static byte[] seal(RecipientInfoGenerator recipient, String cipher, byte[] content) throws Exception {
        OutputEncryptor encryptor = new JceCMSContentEncryptorBuilder(new ASN1ObjectIdentifier(cipher))
            .setProvider(PROVIDER).build();
        CMSProcessableByteArray data = new CMSProcessableByteArray(content);
        if (encryptor instanceof OutputAEADEncryptor) {
            CMSAuthEnvelopedDataGenerator generator = new CMSAuthEnvelopedDataGenerator();
            generator.addRecipientInfoGenerator(recipient);
            return generator.generate(data, (OutputAEADEncryptor) encryptor).getEncoded();
        }
        CMSEnvelopedDataGenerator generator = new CMSEnvelopedDataGenerator();
        generator.addRecipientInfoGenerator(recipient);
        return generator.generate(data, encryptor).getEncoded();
    }

    private static byte[] open(String[] recipient, byte[] message) throws Exception {
        return new CMSEnvelopedData(message).getRecipientInfos().iterator().next()
            .getContent(opener(recipient));
    }

    private static Recipient opener(String[] recipient) throws Exception {
        return switch (recipient[0]) {
            case "password" ->
                new JcePasswordEnvelopedRecipient(recipient[1].toCharArray()).setProvider(PROVIDER);
            case "key" -> new JceKEKEnvelopedRecipient(key(recipient)).setProvider(PROVIDER);
            default ->
                new JceKeyAgreeEnvelopedRecipient(BouncyCastle.privateKey(recipient[3])).setProvider(PROVIDER);
        };
    }

    private static byte[] authenticate(String[] request, byte[] content) throws Exception {
        CMSAuthenticatedDataGenerator generator = new CMSAuthenticatedDataGenerator();
        generator.addRecipientInfoGenerator(generatorFor(request[1].split(" ")));
        MacCalculator mac = new JceCMSMacCalculatorBuilder(new ASN1ObjectIdentifier(request[2]))
            .setProvider(PROVIDER).build();
        CMSProcessableByteArray data = new CMSProcessableByteArray(content);
        if (request[3].equals("-")) {
            return generator.generate(data, mac).getEncoded();
        }
        AlgorithmIdentifier digest = new AlgorithmIdentifier(new ASN1ObjectIdentifier(request[3]));
        return generator.generate(data, mac, BouncyCastle.digests().get(digest)).getEncoded();
    }

    private static byte[] checkMac(String[] recipient, byte[] message) throws Exception {
        CMSAuthenticatedData data = new CMSAuthenticatedData(message, BouncyCastle.digests());
        RecipientInformation info = data.getRecipientInfos().iterator().next();
        byte[] content = info.getContent(recipient[0].equals("password")
            ? new JcePasswordAuthenticatedRecipient(recipient[1].toCharArray()).setProvider(PROVIDER)
            : new JceKEKAuthenticatedRecipient(key(recipient)).setProvider(PROVIDER));
        if (!Arrays.equals(data.getMac(), info.getMac())) {
            throw new SecurityException("the code is wrong");
        }
        AttributeTable attributes = data.getAuthAttrs();
        if (attributes != null) {
            ASN1OctetString digest = ASN1OctetString.getInstance(
                attributes.get(CMSAttributes.messageDigest).getAttrValues().getObjectAt(0));
            if (!Arrays.equals(digest.getOctets(), info.getContentDigest())) {
                throw new SecurityException("the digest is wrong");
            }
        }
        return content;
    }

    private static byte[] certificates(String[] files) throws Exception {
        CMSSignedDataGenerator generator = new CMSSignedDataGenerator();
        for (String file : files) {
            generator.addCertificates(new JcaCertStore(List.of(BouncyCastle.certificate(file))));
        }
        return generator.generate(new CMSAbsentContent()).getEncoded();
    }

    private static byte[] listCertificates(byte[] message) throws Exception {
        ByteArrayOutputStream all = new ByteArrayOutputStream();
        for (X509CertificateHolder certificate : new CMSSignedData(message).getCertificates().getMatches(null)) {
            all.write(certificate.getEncoded());
        }
        return all.toByteArray();
    }

    private static byte[] countersign(String[] signer, byte[] encoded) throws Exception {
        CMSSignedData message = new CMSSignedData(encoded);
        CMSSignedDataGenerator generator = new CMSSignedDataGenerator();
        generator.addSignerInfoGenerator(BouncyCastle.signerInfoGenerator(signer));
        List<SignerInformation> signers = new ArrayList<>();
        for (SignerInformation one : message.getSignerInfos().getSigners()) {
            signers.add(SignerInformation.addCounterSigners(one, generator.generateCounterSigners(one)));
        }
        List<X509CertificateHolder> certificates =
            new ArrayList<>(message.getCertificates().getMatches(null));
        certificates.add(new JcaX509CertificateHolder(BouncyCastle.certificate(signer[signer.length - 1])));
        CMSSignedData countersigned =
            CMSSignedData.replaceSigners(message, new SignerInformationStore(signers));
        return CMSSignedData.replaceCertificatesAndCRLs(
            countersigned, new CollectionStore<>(certificates), null, null).getEncoded();
    }

    private static RecipientInfoGenerator generatorFor(String[] recipient) throws Exception {
        switch (recipient[0]) {
            case "password":
                return new JcePasswordRecipientInfoGenerator(
                        CMSAlgorithm.AES256_CBC, recipient[1].toCharArray())
                    .setProvider(PROVIDER)
                    .setPRF(pseudorandomFunction(recipient[2]))
                    .setSaltAndIterationCount(new byte[16], ITERATIONS);
            case "key":
                byte[] identifier = HexFormat.of().parseHex(recipient[2]);
                return new JceKEKRecipientInfoGenerator(identifier, key(recipient)).setProvider(PROVIDER);
            default:
                X509Certificate certificate = BouncyCastle.certificate(recipient[3]);
                KeyPair ephemeral = ephemeral(certificate.getPublicKey());
                return new JceKeyAgreeRecipientInfoGenerator(
                        new ASN1ObjectIdentifier(recipient[1]), ephemeral.getPrivate(), ephemeral.getPublic(),
                        new ASN1ObjectIdentifier(recipient[2]))
                    .addRecipient(certificate)
                    .setProvider(PROVIDER);
        }
    }

    private static PasswordRecipient.PRF pseudorandomFunction(String name) {
        return switch (name) {
            case "hmac-sha1" -> PasswordRecipient.PRF.HMacSHA1;
            case "hmac-sha224" -> PasswordRecipient.PRF.HMacSHA224;
            case "hmac-sha256" -> PasswordRecipient.PRF.HMacSHA256;
            case "hmac-sha384" -> PasswordRecipient.PRF.HMacSHA384;
            case "hmac-sha512" -> PasswordRecipient.PRF.HMacSHA512;
            default -> throw new UnsupportedOperationException(name);
        };
    }

    private static KeyPair ephemeral(PublicKey key) throws Exception {
        KeyPairGenerator generator = KeyPairGenerator.getInstance(key.getAlgorithm(), PROVIDER);
        if (key instanceof ECPublicKey) {
            generator.initialize(((ECPublicKey) key).getParams());
        }
        return generator.generateKeyPair();
    }

    private static SecretKey key(String[] recipient) {
        return new SecretKeySpec(HexFormat.of().parseHex(recipient[3]), recipient[1]);
    }
}
