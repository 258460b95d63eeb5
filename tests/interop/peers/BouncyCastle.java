import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.PrivateKey;
import java.security.Security;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.security.spec.MGF1ParameterSpec;
import java.security.spec.PKCS8EncodedKeySpec;
import java.security.spec.PSSParameterSpec;
import java.util.Arrays;
import java.util.Collection;
import java.util.HexFormat;
import java.util.List;
import javax.crypto.spec.OAEPParameterSpec;
import javax.crypto.spec.PSource;
import org.bouncycastle.asn1.ASN1ObjectIdentifier;
import org.bouncycastle.asn1.cms.CMSObjectIdentifiers;
import org.bouncycastle.asn1.cms.ContentInfo;
import org.bouncycastle.asn1.pkcs.PKCSObjectIdentifiers;
import org.bouncycastle.asn1.pkcs.PrivateKeyInfo;
import org.bouncycastle.cert.X509CertificateHolder;
import org.bouncycastle.cert.jcajce.JcaCertStore;
import org.bouncycastle.cms.CMSAuthEnvelopedData;
import org.bouncycastle.cms.CMSAuthEnvelopedDataGenerator;
import org.bouncycastle.cms.CMSEnvelopedData;
import org.bouncycastle.cms.CMSEnvelopedDataGenerator;
import org.bouncycastle.cms.CMSException;
import org.bouncycastle.cms.CMSProcessableByteArray;
import org.bouncycastle.cms.CMSSignedData;
import org.bouncycastle.cms.CMSSignedDataGenerator;
import org.bouncycastle.cms.KeyTransRecipientId;
import org.bouncycastle.cms.RecipientInformation;
import org.bouncycastle.cms.RecipientInformationStore;
import org.bouncycastle.cms.SignerInfoGenerator;
import org.bouncycastle.cms.SignerInformation;
import org.bouncycastle.cms.jcajce.JcaSimpleSignerInfoVerifierBuilder;
import org.bouncycastle.cms.jcajce.JcaSignerInfoGeneratorBuilder;
import org.bouncycastle.cms.jcajce.JceCMSContentEncryptorBuilder;
import org.bouncycastle.cms.jcajce.JceKeyTransAuthEnvelopedRecipient;
import org.bouncycastle.cms.jcajce.JceKeyTransEnvelopedRecipient;
import org.bouncycastle.cms.jcajce.JceKeyTransRecipientId;
import org.bouncycastle.cms.jcajce.JceKeyTransRecipientInfoGenerator;
import org.bouncycastle.jce.provider.BouncyCastleProvider;
import org.bouncycastle.operator.DigestCalculatorProvider;
import org.bouncycastle.operator.OutputAEADEncryptor;
import org.bouncycastle.operator.OutputEncryptor;
import org.bouncycastle.operator.jcajce.JcaAlgorithmParametersConverter;
import org.bouncycastle.operator.jcajce.JcaContentSignerBuilder;
import org.bouncycastle.operator.jcajce.JcaDigestCalculatorProviderBuilder;
import org.bouncycastle.util.Selector;

/**
 * Bouncy Castle as a program: reads one request a line, tab-separated, and answers it with one line,
 * "ok" or "refused" and a reason. The Java machine starts slowly, so one process serves many requests.
 *
 * <pre>
 * version
 * sign     detached|attached content output signer...
 * verify   ca message content|- output; answers how many countersignatures there are
 * encrypt  cipherOid pkcs1|digest mgfDigest labelHex content output certificate...
 * decrypt  key certificate message output
 * </pre>
 *
 * A signer is seven fields: algorithm, digest, digest of MGF1, size of the salt, attributes|direct, key and
 * certificate; for "direct" the content itself is signed. Other requests are those of BouncyCastleStructures.
 * Everything but names is a file: keys are PKCS#8, certificates X.509, messages CMS, all DER.
 */
public final class BouncyCastle {
    static final String PROVIDER = "BC";

    private static final int SIGNER_FIELDS = 7;

    private BouncyCastle() {}

    /** What answers a request, or refuses it with an exception. */
    interface Service {
        String answer(String[] request) throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        serve(BouncyCastle::answer);
    }

    static void serve(Service service) throws Exception {
        Security.addProvider(new BouncyCastleProvider());
        BufferedReader requests = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        String line;
        while ((line = requests.readLine()) != null) {
            String answer;
            try {
                answer = "ok\t" + service.answer(line.split("\t"));
            } catch (Exception error) {
                answer = "refused\t" + reason(error);
            }
            System.out.println(answer);
            System.out.flush();
        }
    }

    static String answer(String[] request) throws Exception {
        switch (request[0]) {
            case "version":
                return Security.getProvider(PROVIDER).getVersionStr();
            case "sign":
                write(request[3], sign(request));
                return "";
            case "verify":
                return verify(request);
            case "encrypt":
                write(request[6], encrypt(request));
                return "";
            case "decrypt":
                write(request[4], decrypt(request));
                return "";
            default:
                return BouncyCastleStructures.answer(request);
        }
    }

    private static byte[] sign(String[] request) throws Exception {
        CMSSignedDataGenerator generator = new CMSSignedDataGenerator();
        for (int first = 4; first < request.length; first += SIGNER_FIELDS) {
            String[] signer = Arrays.copyOfRange(request, first, first + SIGNER_FIELDS);
            generator.addSignerInfoGenerator(signerInfoGenerator(signer));
            generator.addCertificates(new JcaCertStore(List.of(certificate(signer[6]))));
        }
        boolean attached = request[1].equals("attached");
        return generator.generate(new CMSProcessableByteArray(read(request[2])), attached).getEncoded();
    }

    /** For the fields of a signer. */
    static SignerInfoGenerator signerInfoGenerator(String[] signer) throws Exception {
        JcaContentSignerBuilder builder;
        if (signer[0].equals("RSASSA-PSS")) {
            builder = new JcaContentSignerBuilder(signer[0], new PSSParameterSpec(
                signer[1], "MGF1", new MGF1ParameterSpec(signer[2]), Integer.parseInt(signer[3]), 1));
        } else {
            builder = new JcaContentSignerBuilder(signer[0]);
        }
        return new JcaSignerInfoGeneratorBuilder(digests())
            .setDirectSignature(signer[4].equals("direct"))
            .build(builder.setProvider(PROVIDER).build(privateKey(signer[5])), certificate(signer[6]));
    }

    private static String verify(String[] request) throws Exception {
        X509Certificate ca = certificate(request[1]);
        CMSSignedData message = request[3].equals("-")
            ? new CMSSignedData(read(request[2]))
            : new CMSSignedData(new CMSProcessableByteArray(read(request[3])), read(request[2]));
        Collection<SignerInformation> signers = message.getSignerInfos().getSigners();
        if (signers.isEmpty()) {
            throw new CMSException("there is no signer");
        }
        int countersignatures = 0;
        for (SignerInformation signer : signers) {
            verify(signer, message, ca);
            for (SignerInformation countersigner : signer.getCounterSignatures().getSigners()) {
                verify(countersigner, message, ca);
                countersignatures++;
            }
        }
        if (message.getSignedContent() == null) {
            throw new CMSException("there is no content");
        }
        write(request[4], (byte[]) message.getSignedContent().getContent());
        return Integer.toString(countersignatures);
    }

    private static void verify(SignerInformation signer, CMSSignedData message, X509Certificate ca)
        throws Exception {
        @SuppressWarnings("unchecked") // SignerId is a Selector without its type
        Selector<X509CertificateHolder> id = signer.getSID();
        Collection<X509CertificateHolder> found = message.getCertificates().getMatches(id);
        if (found.isEmpty()) {
            throw new CMSException("the signer's certificate is not in the message");
        }
        X509Certificate certificate = certificateOf(found.iterator().next());
        certificate.checkValidity();
        certificate.verify(ca.getPublicKey());
        if (!signer.verify(new JcaSimpleSignerInfoVerifierBuilder().setProvider(PROVIDER).build(certificate))) {
            throw new CMSException("the signature does not hold");
        }
    }

    static DigestCalculatorProvider digests() throws Exception {
        return new JcaDigestCalculatorProviderBuilder().setProvider(PROVIDER).build();
    }

    private static byte[] encrypt(String[] request) throws Exception {
        CMSProcessableByteArray content = new CMSProcessableByteArray(read(request[5]));
        OutputEncryptor encryptor =
            new JceCMSContentEncryptorBuilder(new ASN1ObjectIdentifier(request[1])).setProvider(PROVIDER).build();
        if (encryptor instanceof OutputAEADEncryptor) {
            CMSAuthEnvelopedDataGenerator generator = new CMSAuthEnvelopedDataGenerator();
            for (int index = 7; index < request.length; index++) {
                generator.addRecipientInfoGenerator(recipient(request, certificate(request[index])));
            }
            return generator.generate(content, (OutputAEADEncryptor) encryptor).getEncoded();
        }
        CMSEnvelopedDataGenerator generator = new CMSEnvelopedDataGenerator();
        for (int index = 7; index < request.length; index++) {
            generator.addRecipientInfoGenerator(recipient(request, certificate(request[index])));
        }
        return generator.generate(content, encryptor).getEncoded();
    }

    static JceKeyTransRecipientInfoGenerator recipient(String[] request, X509Certificate certificate)
        throws Exception {
        if (request[2].equals("pkcs1")) {
            return new JceKeyTransRecipientInfoGenerator(certificate).setProvider(PROVIDER);
        }
        PSource label = new PSource.PSpecified(HexFormat.of().parseHex(request[4]));
        OAEPParameterSpec parameters =
            new OAEPParameterSpec(request[2], "MGF1", new MGF1ParameterSpec(request[3]), label);
        return new JceKeyTransRecipientInfoGenerator(
            certificate,
            new JcaAlgorithmParametersConverter()
                .getAlgorithmIdentifier(PKCSObjectIdentifiers.id_RSAES_OAEP, parameters)).setProvider(PROVIDER);
    }

    private static byte[] decrypt(String[] request) throws Exception {
        PrivateKey key = privateKey(request[1]);
        KeyTransRecipientId id = new JceKeyTransRecipientId(certificate(request[2]));
        ContentInfo message = ContentInfo.getInstance(read(request[3]));
        if (message.getContentType().equals(CMSObjectIdentifiers.authEnvelopedData)) {
            return find(new CMSAuthEnvelopedData(message).getRecipientInfos(), id)
                .getContent(new JceKeyTransAuthEnvelopedRecipient(key).setProvider(PROVIDER));
        }
        return find(new CMSEnvelopedData(message).getRecipientInfos(), id)
            .getContent(new JceKeyTransEnvelopedRecipient(key).setProvider(PROVIDER));
    }

    private static RecipientInformation find(RecipientInformationStore recipients, KeyTransRecipientId id)
        throws CMSException {
        RecipientInformation recipient = recipients.get(id);
        if (recipient == null) {
            throw new CMSException("there is no recipient with this certificate");
        }
        return recipient;
    }

    static PrivateKey privateKey(String file) throws Exception {
        PrivateKeyInfo info = PrivateKeyInfo.getInstance(read(file));
        String algorithm = info.getPrivateKeyAlgorithm().getAlgorithm().getId();
        return KeyFactory.getInstance(algorithm, PROVIDER).generatePrivate(new PKCS8EncodedKeySpec(read(file)));
    }

    static X509Certificate certificate(String file) throws Exception {
        return certificate(read(file));
    }

    private static X509Certificate certificateOf(X509CertificateHolder holder) throws Exception {
        return certificate(holder.getEncoded());
    }

    static X509Certificate certificate(byte[] der) throws Exception {
        return (X509Certificate)
            CertificateFactory.getInstance("X.509", PROVIDER).generateCertificate(new ByteArrayInputStream(der));
    }

    static byte[] read(String file) throws Exception {
        return Files.readAllBytes(Path.of(file));
    }

    static void write(String file, byte[] content) throws Exception {
        Files.write(Path.of(file), content);
    }

    private static String reason(Throwable error) {
        StringBuilder text = new StringBuilder();
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            text.append(text.length() == 0 ? "" : ": ").append(cause);
        }
        return text.toString().replaceAll("\\s+", " ");
    }
}
